"""A person's yes between the gate's and the promotion: who is asked, with what at hand, and what comes of the answer.

    decide → ask → approve ─┬→ promote
                            └→ decline

`ask` is skipped where nobody is to be asked (the run wants no approval, or the verdict is no yes); Airflow then skips
`approve` and `decline`, and `promote` goes on by itself.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.timezone import utcnow

from theta_airflow.evidence import Decided, approval_body, asks_for_promotion, decided_before, verdict_at
from theta_airflow.month import month_of_run
from theta_airflow.stage_operator import StageOperator
from theta_ml.mail.message import airflow_run
from theta_ml.settings import load_settings

APPROVE, REJECT = "Approve", "Reject"
ANSWER = "answer"
"""XCom of `approve`: `{"option": Approve or Reject, "by": name}`; the name is empty where the deadline answered."""


class AskOperator(StageOperator):
    """The stage `ask`: a mail that says who is waited for, where, and how long."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(stage="ask", **kwargs)

    def execute(self, context: Context) -> dict[str, str]:
        if not context["params"]["approval"]:
            raise AirflowSkipException("this run wants no approval")
        return super().execute(context)

    def told(self, context: Context) -> dict[str, str]:
        page = f"{airflow_run(load_settings().airflow, str(context['dag_run'].run_id), 'approve')}/required_actions"
        return super().told(context) | {"hours": str(context["params"]["approval_hours"]), "url": page}


class ApproveOperator(HITLBranchOperator):
    """Waits for a person, without a worker; after the run's `approval_hours` the answer is no.

    Cleared, it asks again, until the run has decided: that it does once, and its row in the ledger stands. Raises
    AirflowFailException where the run has no verdict to show.
    """

    template_fields: Sequence[str] = ()  # the body quotes names that come from data: it is no template

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            task_id="approve",
            subject="Make the candidate champion?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            options_mapping={APPROVE: "promote", REJECT: "decline"},
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        if decided := decided_before(str(context["dag_run"].run_id)):
            return self._follow(decided, context)
        verdict = verdict_at(context["ti"].xcom_pull(task_ids="decide"))
        self.response_timeout = timedelta(hours=float(context["params"]["approval_hours"]))
        deadline = utcnow() + self.response_timeout
        self.subject = f"{month_of_run(context)}: make version {verdict.candidate_version} champion?"
        self.body = approval_body(verdict, deadline)
        try:
            return super().execute(context)
        except TaskAwaitingInput as waiting:
            waiting.kwargs = {"deadline": deadline.isoformat()}
            raise

    def _follow(self, decided: Decided, context: Context) -> Any:
        self.log.info("nobody is asked, for the run has decided: %s", decided.sentence)
        option = APPROVE if decided.promoted else REJECT
        context["ti"].xcom_push(key=ANSWER, value={"option": option, "by": decided.by})
        return self.do_branch(context, [self.options_mapping[option]])

    def execute_complete(self, context: Context, event: dict[str, Any], deadline: str = "") -> Any:
        """Also of an answer that came late, while the scheduler that watches the deadline was away."""
        if "error" not in event:
            if deadline and event["responded_at"] > datetime.fromisoformat(deadline):
                event = event | {"chosen_options": [REJECT], "responded_by_user": None}
            (option,) = event["chosen_options"]
            person = event["responded_by_user"]
            by = str(person["name"]) if person else ""
            self.log.info("%s, by %s", option, by or "nobody: the deadline has passed")
            context["ti"].xcom_push(key=ANSWER, value={"option": option, "by": by})
        return super().execute_complete(context, event)


class AnsweredOperator(StageOperator):
    """A stage that carries the answer out; it takes the name of who gave it as its parameter `by`.

    Where the run wants approval, nothing but the answer `option` lets it work: a task that somebody marked as done, or
    skipped, is no answer.
    """

    def __init__(self, *, option: str, by: str, **kwargs: Any) -> None:
        super().__init__(any_code=True, **kwargs)  # who answers may take days, and nobody should be asked again
        self.option = option
        self.by = by

    def execute(self, context: Context) -> dict[str, str]:
        if context["params"]["approval"] and _answer(context)["option"] != self.option:
            if asks_for_promotion(verdict_at(context["ti"].xcom_pull(task_ids="decide"))):
                raise AirflowFailException(f"nobody has answered {self.option}: clear `approve`, which asks again")
            raise AirflowSkipException("the gate said no: the champion stays, and nobody was asked")
        return super().execute(context)

    def told(self, context: Context) -> dict[str, str]:
        return super().told(context) | {self.by: _answer(context)["by"]}


def _answer(context: Context) -> dict[str, str]:
    given: dict[str, str] | None = context["ti"].xcom_pull(task_ids="approve", key=ANSWER)
    return given or {"option": "", "by": ""}
