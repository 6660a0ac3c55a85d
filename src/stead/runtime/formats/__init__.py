"""Model formats: a folder in the MLmodel layout, written and read without MLflow, inside the model's own environment.

`save` and `load` know scikit-learn, XGBoost, LightGBM, CatBoost, ONNX, PyTorch and plain Python; `adopt` takes over what
MLflow wrote.
"""

from stead.runtime.formats.adopting import adopt
from stead.runtime.formats.libraries import versions
from stead.runtime.formats.portable import Columns
from stead.runtime.formats.predicting import Predictor, golden_columns, join, load, read_config
from stead.runtime.formats.saving import save

__all__ = ["Columns", "Predictor", "adopt", "golden_columns", "join", "load", "read_config", "save", "versions"]
