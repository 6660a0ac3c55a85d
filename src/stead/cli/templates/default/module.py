"""The model {name}: where its rows come from, what it learns from, how it is fitted.

stead train {name}       a tracked, repeatable training in a locked environment
stead deploy {name}      an endpoint that answers
"""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor


def ingest(since: datetime, until: datetime) -> pd.DataFrame:
    """Rows with since <= time < until. Replace this made-up demand with your query or file."""
    since = max(since, until - timedelta(days=180))
    hours = pd.date_range(pd.Timestamp(since).ceil("h"), until, freq="h", inclusive="left", unit="us")
    noise = np.array([np.random.default_rng(int(t.timestamp())).normal() for t in hours])
    temperature = 12 - 10 * np.cos(2 * np.pi * hours.dayofyear.to_numpy() / 365) + 2 * noise
    rush = 60 * np.isin(hours.hour, [8, 9, 17, 18]) * (hours.dayofweek < 5)
    demand = (80 + 3 * temperature + rush + 8 * noise).clip(0).round()
    return pd.DataFrame({"time": hours, "temperature": temperature.round(1), "demand": demand})


def features(raw: pd.DataFrame) -> pd.DataFrame:
    """Raw rows, without the target, to what the model learns from. The same code runs in training and in serving."""
    time = pd.to_datetime(raw["time"])
    return pd.DataFrame({"hour": time.dt.hour, "weekday": time.dt.dayofweek, "temperature": raw["temperature"]})


def train(X: pd.DataFrame, y: pd.Series) -> HistGradientBoostingRegressor:
    """Fit and return the model."""
    return HistGradientBoostingRegressor(max_iter=200, learning_rate=0.08, random_state=0).fit(X, y)
