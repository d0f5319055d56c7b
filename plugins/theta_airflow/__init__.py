"""What of Theta faces Airflow: the stage operator, the run's month, and mail."""
