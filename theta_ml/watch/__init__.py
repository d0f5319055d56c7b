"""What looks at the clock rather than at a run: is it time to retrain, is a decision overdue?"""
