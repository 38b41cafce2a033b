import mlflow
import pandas as pd

import skmars

with mlflow.start_run():
    logged = mlflow.pyfunc.log_model(
        name="mars",
        python_model="mars.py",  # its text is logged, not a pickle
        artifacts={"model": "shop"},  # the folder that skmars.save or `skmars fit` wrote
        pip_requirements=[f"skmars[serving]=={skmars.__version__}"],
    )

# Anywhere else:
served = mlflow.pyfunc.load_model(logged.model_uri)
rows = pd.DataFrame({"user_id": [3, 3], "item_id": [7, 8]})
probability = served.predict(rows)
