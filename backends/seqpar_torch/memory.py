"""What a tensor is in memory: names of dtypes, lazy conjugates made real, results that share nothing."""

import torch

Tensor = torch.Tensor

NAMES: dict[torch.dtype, str] = {
    value: name for name in sorted(dir(torch)) if isinstance(value := getattr(torch, name), torch.dtype)
}
# Some dtypes have two names in torch (half, float16); the array API's is the one that torch prints.
NAMES.update({dtype: str(dtype).removeprefix("torch.") for dtype in NAMES})
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in NAMES.items()}


def resolved(x: Tensor) -> Tensor:
    """The tensor with a lazy conjugation or negation carried out."""
    if x.is_conj() or x.is_neg():
        return x.resolve_conj().resolve_neg()
    return x


def separate(
    results: tuple[Tensor, ...], operands: "list[Tensor] | tuple[Tensor, ...]"
) -> tuple[Tensor, ...]:
    """Results that are contiguous and share memory with no operand and no other result, as operators must return them."""
    seen = {x.untyped_storage()._cdata for x in operands}
    fresh = []
    for x in results:
        x = x.contiguous()
        if x.untyped_storage()._cdata in seen:
            x = x.clone()
        seen.add(x.untyped_storage()._cdata)
        fresh.append(x)
    return tuple(fresh)
