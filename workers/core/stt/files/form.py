"""A request as the text fields of the provider's form (WIRE 2.10). Pure; the file itself is not among them."""

from typing import Final

from api_contracts.stt_files import SttFileRequest

_AS_THEY_ARE: Final = {
    "model", "vad_model", "alignment_model", "language", "prompt", "response_format", "min_speakers", "max_speakers",
    "preprocessing",
}  # fmt: skip


def fields_of(request: SttFileRequest) -> list[tuple[str, str]]:
    """Return names and values in the provider's spelling; what is unset is absent.

    Granularities are one value, `word,segment`, as documented. How the ladder of temperatures is spelled is not:
    the field is repeated, as lists are elsewhere in forms.
    """
    plain = request.model_dump(include=_AS_THEY_ARE, exclude_none=True)
    fields = [(name, str(value)) for name, value in plain.items()]
    if request.diarize is not None:
        fields.append(("diarize", "true" if request.diarize else "false"))
    ladder = request.temperature if isinstance(request.temperature, list) else [request.temperature]
    fields += [("temperature", f"{rung:g}") for rung in ladder if rung is not None]
    if request.granularities:
        fields.append(("timestamp_granularities", ",".join(request.granularities)))
    return fields
