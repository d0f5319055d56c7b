"""Where a training starts from: the champion's weights, random ones, or those of a model that learned elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers.utils.logging
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.model.attention import training_attention
from theta_ml.model.loading import context_length
from theta_ml.pretrained import context_of, find_model
from theta_ml.settings import Settings, load_settings
from theta_ml.stage import StageFailed
from theta_ml.store import Store
from theta_ml.training.adapters import adapted
from theta_ml.training.hardware import pick_device
from theta_ml.training.presets import Hyper, Preset
from theta_ml.training.recipe import CHAMPION, Recipe

_DROPOUTS = ("dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "embedding_dropout")
_ATTENTION_DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class Start:
    """A model before its first step."""

    model: PreTrainedModel
    """With the recipe's adapters around it where it has some; `adapters.merged` gives the plain model back."""
    name: str
    """`scratch`, `champion v3`, or `base openai-community/gpt2`."""
    peak: float
    """Learning rate that the preset has for such a start."""
    rate: str
    """Field of Hyper that holds it."""


def start(
    recipe: Recipe,
    preset: Preset,
    champion: Champion | None,
    corpus: PackedCorpus,
    folder: Path,
    seed: int,
    store: Store,
    settings: Settings | None = None,
) -> Start:
    """The model that `recipe` begins with, in float32. `preset` is `recipe.preset_of(the run's)`, `folder` holds the
    packed corpus, `settings` (the process' own where not given) say where base models lie.

    Raises ArtifactMissing where the champion's files are gone, and StageFailed where the recipe's base model is
    missing or does not suit the corpus, or where the recipe needs a champion and none fits.
    """
    transformers.utils.logging.disable_progress_bar()  # one bar a file of weights: noise in a task's log
    transformers.utils.logging.set_verbosity_error()  # hints for who writes code; what is wrong is raised
    torch.manual_seed(seed)
    if recipe.start == "base":
        found = find_model(str(recipe.base), settings or load_settings())
        model = _loaded(found, f"base model {recipe.base}", preset)
        new = _grow(model, found, corpus)
        return _begun(model, recipe, preset.hyper, f"base {recipe.base}", "rate_base", new)
    if recipe.start == "champion":
        why = misfit(preset, champion, corpus, store)
        if champion and not why:
            name = f"champion v{champion.version}"
            model = _loaded(_model_folder(champion, store), name, preset)
            rate = "rate_champion" if isinstance(model, ThetaForCausalLM) else "rate_base"
            return _begun(model, recipe, preset.hyper, name, rate)
        _require_scratch_will_do(recipe, why)
    return _begun(_random(preset, corpus, folder), recipe, preset.hyper, "scratch", "rate_scratch")


def load_teacher(recipe: Recipe, champion: Champion | None, corpus: PackedCorpus, store: Store) -> PreTrainedModel:
    """Of a recipe that distils, ready to predict. Raises StageFailed where there is none, or where it reads other
    tokens or shorter rows than the corpus has."""
    folder = _teacher_folder(recipe, champion, store)
    if ChatTokenizer.load(folder).key() != corpus.tokenizer_key:
        raise StageFailed(
            f"recipe {recipe.name}: the teacher at {folder} has another tokenizer than the corpus, and would speak of "
            f"other tokens than the student; choose a teacher with the champion's tokenizer"
        )
    teacher = _loaded(folder, f"teacher at {folder}")
    _require_context(teacher, corpus, f"the teacher at {folder}")
    return teacher.eval()


def _teacher_folder(recipe: Recipe, champion: Champion | None, store: Store) -> Path:
    if recipe.teacher == CHAMPION:
        if champion is None:
            raise StageFailed(
                f"recipe {recipe.name}: there is no champion yet to be taught by; train one by `continue` first"
            )
        return _model_folder(champion, store)
    folder = Path(recipe.teacher)
    if not folder.is_absolute():
        return find_model(recipe.teacher, load_settings())
    if not (folder / "config.json").exists():
        raise StageFailed(f"recipe {recipe.name}: no model at {folder}; mend its `teacher`")
    return folder


def misfit(preset: Preset, champion: Champion | None, corpus: PackedCorpus, store: Store) -> str:
    """Why training cannot go on from the champion; empty where it can."""
    if champion is None:
        return "there is none"
    artifact = store.open(champion.uri)
    of, folder = f"v{champion.version}", artifact.path / "model"
    if (its := artifact.document["value"]["preset"]) != preset.name:
        return f"{of} is of preset {its}, not {preset.name}"
    if ChatTokenizer.load(folder).key() != corpus.tokenizer_key:
        return f"{of} has another tokenizer than the corpus"
    if (context := context_of(folder)) < corpus.max_length:
        return f"{of} reads {context} tokens at once, and the corpus' rows have {corpus.max_length}"
    return ""


def _begun(
    model: PreTrainedModel, recipe: Recipe, hyper: Hyper, name: str, rate: str, new_tokens: list[int] | None = None
) -> Start:
    model.config.use_cache = False  # in training, a cache has packed documents see each other; `merged` turns it on
    if recipe.adapters:
        model = adapted(model, recipe.adapters, new_tokens)
    return Start(model, name, getattr(hyper, rate), rate)


def _require_scratch_will_do(recipe: Recipe, why: str) -> None:
    """Random weights stand in for a champion only where a recipe trains all of them on conversations."""
    what = "adapters" if recipe.adapters else None if recipe.method == "finetune" else f"method {recipe.method}"
    if what:
        raise StageFailed(
            f"recipe {recipe.name}: {what} needs a champion to start from ({why}); train one by `continue` first, or "
            f"choose `start: base`"
        )


def _random(preset: Preset, corpus: PackedCorpus, folder: Path) -> ThetaForCausalLM:
    tokenizer = ChatTokenizer.load(folder / "tokenizer")
    config = ThetaConfig(**preset.shape.config(tokenizer, corpus.max_length))
    config._attn_implementation = training_attention(config, pick_device(), compiled=False)
    return ThetaForCausalLM(config)


def _model_folder(champion: Champion, store: Store) -> Path:
    return store.open(champion.uri).path / "model"


def _loaded(folder: Path, what: str, preset: Preset | None = None) -> PreTrainedModel:
    """In float32, its dropout as the preset has it where one is given.

    Raises StageFailed where the library does not know such a model, or a weight of it is missing.
    """
    from_here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **from_here)
        if preset:
            _set_dropout(config, preset.shape.dropout)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=training_attention(config, pick_device(), compiled=False),
            use_safetensors=True,
            output_loading_info=True,
            **from_here,
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise StageFailed(
            f"{what}: {folder} cannot be loaded as a causal language model of the library ({reason}); choose another"
        ) from None
    model, report = loaded
    if lacking := sorted(report["missing_keys"]):
        raise StageFailed(
            f"{what}: the weights in {folder} lack {len(lacking)} of the model's, {lacking[0]} for one: they would be "
            f"random; copy the files again, or choose another model"
        )
    return cast(PreTrainedModel, model)


def _set_dropout(config: PreTrainedConfig, share: float) -> None:
    """On residuals and embeddings, where the model has it; none on attention, whose fast kernels have none."""
    given = config.to_dict()
    for name in (*_DROPOUTS, *_ATTENTION_DROPOUTS):
        if name in given:
            setattr(config, name, share if name in _DROPOUTS else 0.0)


def _grow(model: PreTrainedModel, base: Path, corpus: PackedCorpus) -> list[int]:
    """Gives the base an embedding for each control token that it lacks, drawn around the mean of those there are.

    Returns the ids of these tokens.
    """
    tokenizer = ChatTokenizer.from_base(base)
    if tokenizer.key() != corpus.tokenizer_key:
        raise StageFailed(
            f"the base model at {base} reads other tokens than the corpus was made of ({tokenizer.vocabulary} of them, "
            f"the corpus has {corpus.vocabulary}): run `theta stage prepare` with the same recipe"
        )
    _require_context(model, corpus, f"the base model at {base}")
    embeddings: Any = model.get_input_embeddings()
    if tokenizer.vocabulary > embeddings.num_embeddings:
        model.resize_token_embeddings(tokenizer.vocabulary)
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.begin, tokenizer.end, tokenizer.pad
    return tokenizer.added(base)


def _require_context(model: PreTrainedModel, corpus: PackedCorpus, what: str) -> None:
    if (context := context_length(model)) < corpus.max_length:
        raise StageFailed(
            f"{what} reads {context} tokens at once, and the corpus' rows have {corpus.max_length}: choose a preset "
            f"with shorter rows, or another model"
        )
