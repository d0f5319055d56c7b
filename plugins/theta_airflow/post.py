"""`python -m theta_airflow.post`: mail while Airflow is dead. Needs none of its services and none of its databases.

The connection comes from the environment (`AIRFLOW_CONN_SMTP_DEFAULT`). Carries whatever waits in the outbox; with
`--direct`, the one message that stdin holds as JSON, for when the outbox is away too. Exit status 1 where it did not
leave.
"""

import json
import logging
import sys

from theta_airflow.mail import post_waiting, send
from theta_ml.mail.message import Message

log = logging.getLogger("theta_airflow.post")


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["--direct"]:
            message = Message(**json.load(sys.stdin))
            send(message)
            log.warning("mail sent: %s", message.subject)
        else:
            post_waiting()
    except Exception as error:  # noqa: BLE001  whoever called is told, and tries again
        log.error("no mail left: %s", error or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
