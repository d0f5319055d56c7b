"""Where a conversation went, from the feed to the models that learned from it; and how it is taken out again.

What an erasure changes, in this order: the audit (`audit`), the landing tables (`landed`), snapshots (`snapshots`),
packed units (`units`), the reports of corpora (`corpora`), copies on this machine (`copies`) and what MLflow was given
(`published`). Models cannot forget: those that learned from it are named (`versions`).
"""
