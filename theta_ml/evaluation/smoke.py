"""Does the candidate speak at all? A few fixed prompts, answered with nucleus sampling under fixed seeds."""

from dataclasses import dataclass

PROMPTS = (
    "Hello! Who are you?",
    "How do I list the files in a folder?",
    "Can you recommend a place for dinner?",
    "My network stopped working after the update.",
    "Thank you, that helped.",
)


@dataclass(frozen=True)
class Reply:
    prompt: str
    reply: str
    passed: bool
    note: str
    """Why it did not pass; empty where it did."""


def judge(prompt: str, reply: str, tokens: list[int]) -> Reply:
    """Passes unless the reply is empty, or one token over and over. `tokens` are those of the reply alone."""
    note = ""
    if not reply.strip():
        note = "the reply is empty"
    elif len(tokens) >= 4 and len(set(tokens)) == 1:
        note = f"the reply is one token, {len(tokens)} times"
    return Reply(prompt, reply, not note, note)
