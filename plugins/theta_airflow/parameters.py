"""What a run of theta_retrain may be asked for; Airflow's trigger form shows it."""

from airflow.sdk import Param

from theta_airflow.recipes import known_recipes
from theta_ml.month import MONTH_PATTERN
from theta_ml.settings import load_settings

RETRAIN = {
    "month": Param(
        None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month", description="YYYY-MM, for runs by hand"
    ),
    "recipes": Param(
        ["continue"],
        type="array",
        items={"type": "string"},
        examples=known_recipes(),
        title="Recipes",
        description="One candidate is trained for each; the best of them meets the champion",
    ),
    "bootstrap": Param(False, type="boolean", description="Let the first candidate ever become champion"),
    "accept_feed": Param(
        False,
        type="boolean",
        title="Accept the feed",
        description="A person has looked: what drift calls another feed is meant",
    ),
    "preset": Param("tiny", enum=["tiny", "base"], description="Size and hyper-parameters of the model"),
    "tokenizer": Param("champion", enum=["champion", "new"], description="Keep the champion's, or train a new one"),
    "shards": Param(
        load_settings().shards,
        type="integer",
        minimum=1,
        maximum=64,
        title="Shards",
        description="Into how many parts snapshot and corpus are split; workers make them side by side",
    ),
    "approval": Param(
        load_settings().approval, type="boolean", description="A person must say yes before a candidate is promoted"
    ),
    "approval_hours": Param(
        load_settings().approval_hours,
        type="number",
        exclusiveMinimum=0,
        maximum=24 * 365,
        title="Approval hours",
        description="Without an answer for so long, the answer is no",
    ),
}
