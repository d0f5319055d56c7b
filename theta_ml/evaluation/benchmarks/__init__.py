"""MMLU, GPQA, MATH, HumanEval and GSM8K through lm-evaluation-harness, from local files.

The harness builds prompts and requests, asks the model and scores; the files, which items, how many shots fit and what
is reported are ours. Nothing is fetched and nothing is told to anybody.
"""
