"""Bike rides an hour in Washington, D.C. (Capital Bikeshare): where rows come from, what the model learns from."""

from datetime import datetime

import holidays
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor


def ingest(since: datetime, until: datetime) -> pd.DataFrame:
    """Hours with since <= ts < until. The weather is the day's own, as if the forecast were perfect."""
    rows = pd.read_csv("data/bikes.csv", parse_dates=["ts"])
    return rows[(rows["ts"] >= since) & (rows["ts"] < until)]


def features(raw: pd.DataFrame) -> pd.DataFrame:
    """Hour, weekday, holiday and weather. No day of the year: it would learn a year's growth as a season."""
    time = pd.to_datetime(raw["ts"])
    federal = holidays.UnitedStates(years=sorted(time.dt.year.unique().tolist()))
    holiday = time.dt.date.isin(list(federal))
    return pd.DataFrame(
        {
            "hour": time.dt.hour,
            "weekday": time.dt.dayofweek,
            "holiday": holiday.astype(int),
            "working": ((time.dt.dayofweek < 5) & ~holiday).astype(int),
            "tmin": raw["tmin"],
            "tmax": raw["tmax"],
            "rain": raw["pn"],
        }
    )


def train(X: pd.DataFrame, y: pd.Series) -> HistGradientBoostingRegressor:
    """Boosted trees on the counts."""
    return HistGradientBoostingRegressor(max_iter=200, learning_rate=0.08, max_leaf_nodes=31, random_state=0).fit(X, y)
