"""What was erased, and must not come back by another way."""

from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings


def erased_ids(settings: Settings) -> list[str]:
    """Ids of all conversations that were ever erased. Raises DatabaseUnreachable and SettingsError."""
    with database_faults(), connect(settings) as connection:
        rows = connection.execute("SELECT conversation_id FROM erased_conversations ORDER BY conversation_id")
        return [conversation_id for (conversation_id,) in rows]
