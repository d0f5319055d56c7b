"""Is the month's data fit to train on (validate), what does it hold (profile), and is it another world (drift)?"""
