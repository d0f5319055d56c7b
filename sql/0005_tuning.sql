-- Hyper-parameter studies. Optuna makes and upgrades its own tables; they stay apart from Theta's.

CREATE SCHEMA tuning;
