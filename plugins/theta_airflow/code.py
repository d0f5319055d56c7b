"""One run, one version of Theta: what was made by other code is not gone on from."""

import socket
from collections.abc import Iterable, Mapping

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from theta_ml.code import code_version


def require_one_code(taken: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """`taken`: tasks, and the artifacts they handed on.

    Raises AirflowException, for another try, on another worker; AirflowFailException where this very host had that
    other code, and has it no more.
    """
    own, here = code_version(), socket.gethostname()
    for task, artifact in taken:
        code = artifact.get("code", "none")  # of a Theta that did not say
        if code == own:
            continue
        if artifact.get("host") == here:
            raise AirflowFailException(
                f"`{task}` was done by code {code} on {here}, which has code {own} now: one run, one version. Clear "
                f"the run from its first task; what comes out the same is found at once"
            )
        raise AirflowException(
            f"`{task}` was done by code {code} on {artifact.get('host', 'a host that did not say')}, and "
            f"{here} has code {own}: one run, one version. This task is tried again, and goes on "
            f"where a worker has {code}. If all workers are to have {own}: install it on each (`theta --version` "
            f"tells it), then clear the run from its first task; what comes out the same is found at once"
        )
