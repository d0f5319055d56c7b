"""Where Airflow runs a stage: its pool, and the Celery queue that a worker for it listens to."""

from theta_ml.settings import load_settings

GPU_QUEUE = "gpu"
"""Of Celery; the LocalExecutor, which has one, ignores it. All else is on Airflow's own default queue."""
GPU_POOL = "gpu"


def place(gpu: bool) -> dict[str, str]:
    """Arguments of a stage's operator. What needs the GPU is one at a time by its pool, wherever it runs."""
    if not gpu:
        return {}
    return {"pool": GPU_POOL} | ({"queue": GPU_QUEUE} if load_settings().train_on == "queue" else {})
