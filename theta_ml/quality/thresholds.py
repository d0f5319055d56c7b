"""Every threshold of this room. All are parameters of their stages: `theta stage validate --set max_same_reply=0.2`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ValidateSpec:
    """The thresholds that the suites refer to by name, beside those they hold themselves. Shares are 0-1."""

    month: str
    """Month to judge."""
    min_conversations: int = 20
    """Fewer can neither be judged nor compared."""
    lowest_volume: float = 0.6
    """Of the median of the months before: under it, part of the feed is gone. Uneven feeds get more room."""
    lowest_volume_unsure: float = 0.25
    """The same where fewer than three months came before."""
    highest_volume: float = 10.0
    """Of the median of the months before: over it, something landed again and again."""
    history_months: int = 3
    """Months before whose replies and conversations this month is compared with."""
    reply_length_factor: float = 2.5
    """How many times longer or shorter the median conversation's replies may be than in the months before."""
    max_rejected: float = 0.1
    """Rows that the imports which brought the month turned away: without an id, a date, a known role or readable
    text. More, and what did land is not the month."""
    min_with_reply: float = 0.5
    """Conversations with at least one reply: without one there is nothing to learn."""
    min_starts_with_user: float = 0.5
    """Conversations whose first speaker is a user; fewer, and the roles are probably swapped."""
    min_median_turns: float = 1.0
    """Messages of the median conversation, at least."""
    max_median_turns: float = 200.0
    """Messages of the median conversation, at most: more, and conversations have run together."""
    max_duplicate_conversations: float = 0.1
    """Conversations that say word for word what another of the month says."""
    max_replayed_conversations: float = 0.2
    """Conversations that say word for word what one of the months before says."""
    max_same_reply: float = 0.1
    """The most frequent reply, numbers aside; 6 % is the most seen in a healthy corpus of order confirmations."""
    max_same_user_message: float = 0.4
    """The most frequent user message, numbers aside; 5 % of a healthy corpus of orders are `yes`."""
    max_same_length: float = 0.15
    """Replies of 20 characters or more that have the most frequent length: more, and something cuts them."""
    max_blank_replies: float = 0.1
    """Replies without a letter or digit; lone smileys and question marks are up to 2 % of real chats."""
    max_blank_messages: float = 0.1
    """Messages of anybody without a letter or digit."""
    max_same_speaker: float = 0.75
    """Messages by whoever spoke just before: half of them in a chat room, all where the roles were lost."""
    max_one_user: float = 0.2
    """Conversations of the user with most; 1.5 times the share of the months before where that is more."""
    max_new_languages: float = 0.5
    """Conversations in languages that no month before has."""
    max_echoes: float = 0.1
    """Replies that repeat the message before; up to 2 % where people greet each other."""
    suites: str = ""
    """Key of the suites' text, filled in by the stage: an edited suite judges anew."""


@dataclass(frozen=True)
class DriftSpec:
    """What is compared, and from where on it counts. Shares are 0-1. What chance and the past lead to expect of each
    column is measured, see `calibration`."""

    month: str
    """Month to compare with the newest one before it, and the newest one three months or more before it, that have
    enough conversations."""
    accepted: bool = False
    """A person has looked: what looks like another feed is meant (an assistant that greets otherwise, say). Months that
    are blocked are compared with nobody, so that without this word every later month would look broken as well."""
    min_conversations: int = 20
    """Of any month; fewer say nothing."""
    sample: int = 2000
    """Conversations of each month that are compared, at the most. More see smaller changes."""
    seed: int = 0
    """Of the sample and of the shuffles."""
    shuffles: int = 1000
    """Random deals of both months' rows, from which come the distances that chance reaches."""
    false_alarms: float = 0.02
    """How often months that differ by chance alone may be said to drift, over all columns and both references. Under
    the 5 % that are promised: the quantile of so many shuffles is itself an estimate."""
    history: int = 6
    """Months before whose distances from each other say what is usual from month to month."""
    vocabulary_size: int = 200
    """Words compared: those that most conversations use."""
    broken_rise: float = 0.1
    """Rise of a share of damage (0.1: from 1 % to 11 %), above the most that any month compared with shows, that says
    the feed is broken. A healthy corpus of orders has 5 % of its messages alike."""
    template_rise: float = 0.15
    """The same for conversations that begin with the same four words, somewhere in the first dozen."""
    same_turns: float = 0.9
    """Conversations that have the most frequent number of turns: under this, a rise of theirs says nothing, for short
    chats have one length by nature (73 % of a healthy corpus of orders)."""
    unanswered_rise: float = 0.5
    """The same for conversations without a reply; it varies by nature."""
    roles_alike: float = 0.25
    """Cosine between what sets users' words apart from replies' now and before: under minus this, roles are swapped;
    under this, they are where conversations also began with the other role."""
