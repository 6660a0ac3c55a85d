"""Save the same model as MLflow does: `python save_mlflow.py MODEL.pkl FOLDER`."""

import pickle
import sys

import mlflow.sklearn

with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
requirements = ["scikit-learn", "mlflow"]
mlflow.sklearn.save_model(model, sys.argv[2], pip_requirements=requirements, serialization_format="cloudpickle")
