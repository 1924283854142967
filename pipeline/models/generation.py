"""How a model wants its tokens chosen, as its checkpoint says and `generate` of transformers reads.

The settings are those of generation_config.json; where there is no such file, those of the same
names in config.json. What is not said there is not guessed from elsewhere: a model that names no
end-of-sequence token has none.

Prompts may say otherwise for temperature, top_k and top_p. Everything else that would change which
token is chosen (penalties, forbidden tokens, beams) does not exist here, so a model that asks for
it is refused and not served as something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.models.errors import InvalidModel
from proofs.sampling.settings import SamplingSettings

FILE = "generation_config.json"
TOP_K = 50
"""transformers' own, for a model that samples and does not say."""

GREEDY = SamplingSettings()

_NOTHING: tuple[object, ...] = (None, False, 0, [], {})
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "begin_suppress_tokens": _NOTHING,
    "bad_words_ids": _NOTHING,
    "constraints": _NOTHING,
    "dola_layers": _NOTHING,
    "encoder_no_repeat_ngram_size": _NOTHING,
    "encoder_repetition_penalty": (None, 1),
    "exponential_decay_length_penalty": _NOTHING,
    "force_words_ids": _NOTHING,
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "guidance_scale": (None, 1),
    "min_length": _NOTHING,
    "min_new_tokens": _NOTHING,
    "no_repeat_ngram_size": _NOTHING,
    "num_beam_groups": (None, 1),
    "num_beams": (None, 1),
    "penalty_alpha": _NOTHING,
    "repetition_penalty": (None, 1),
    "sequence_bias": _NOTHING,
    "stop_strings": _NOTHING,
    "suppress_tokens": _NOTHING,
    "token_healing": _NOTHING,
    "watermarking_config": _NOTHING,
}
_NEUTRAL_WHEN_SAMPLING: dict[str, tuple[object, ...]] = {
    "epsilon_cutoff": _NOTHING,
    "eta_cutoff": _NOTHING,
    "min_p": _NOTHING,
    "top_h": (None,),
    "typical_p": (None, 1),
}


@dataclass(frozen=True)
class Generation:
    """A model's own settings.

    Attributes:
        eos_ids: tokens that end a completion.
        sampling: how tokens are chosen where a prompt does not say; the noise key is not set.
        foreign: settings that change the choice of tokens and that nothing here has.
    """

    eos_ids: tuple[int, ...] = ()
    sampling: SamplingSettings = GREEDY
    foreign: tuple[str, ...] = ()


def generation_of(settings: Mapping[str, Any], where: str) -> Generation:
    """Read the settings of a generation_config.json, or of a config.json without one.

    Args:
        where: the file, for messages.

    Raises:
        InvalidModel: a value is none that it can have; names the field.
    """
    sampled = settings.get("do_sample") is True
    neutral = _NEUTRAL | (_NEUTRAL_WHEN_SAMPLING if sampled else {})
    foreign = sorted(name for name, values in neutral.items() if settings.get(name) not in values)
    return Generation(
        _eos_ids(settings.get("eos_token_id"), where),
        _sampling(settings, where) if sampled else GREEDY,
        tuple(foreign),
    )


def _eos_ids(found: object, where: str) -> tuple[int, ...]:
    if found is None:
        return ()
    ids = found if isinstance(found, list) else [found]
    if not all(type(item) is int and 0 <= item < 2**31 for item in ids):
        raise InvalidModel(
            f"{where}: eos_token_id is {found!r}, not a token id or a list of them; correct it"
        )
    return tuple(dict.fromkeys(ids))


def _sampling(settings: Mapping[str, Any], where: str) -> SamplingSettings:
    said = {name: settings.get(name) for name in ("temperature", "top_k", "top_p")}
    defaults = {"temperature": 1.0, "top_k": TOP_K, "top_p": 1.0}
    values = {name: defaults[name] if value is None else value for name, value in said.items()}
    try:
        return SamplingSettings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "sampling"
        raise InvalidModel(
            f"{where}: {name} is {values.get(name)!r}: {first['msg']}; correct it"
        ) from exc
