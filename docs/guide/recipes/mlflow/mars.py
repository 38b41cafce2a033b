"""A saved model of skmars as a model of MLflow: a table of users and items in, clicks out."""

import mlflow.pyfunc
from mlflow.models import set_model

import skmars


class Mars(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.model = skmars.load(context.artifacts["model"])

    def predict(self, context, model_input, params=None):
        """Return the probability of a click for each row."""
        rows = self.model.histories.impressions(
            model_input["user_id"].to_numpy(),
            model_input["item_id"].to_numpy(),
            # Seconds; without the column, all that the user did in the log is history.
            model_input["timestamp"].to_numpy() if "timestamp" in model_input else None,
        )
        return self.model.pipeline.predict_proba(rows)[:, 1]


set_model(Mars())
