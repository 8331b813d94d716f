"""The step as torch's compiler makes it, with the plain one to fall back on."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from fishcli.lm.step import Rows, Step, step
from fishcli.lm.transformer import Past, Transformer

log = logging.getLogger(__name__)


def compiled() -> Step:
    """A step that is compiled at its first call. Where that fails, a warning says why and the plain one serves."""
    current: Step = torch.compile(step, dynamic=True)

    def run(model: Transformer, past: Past, rows: Rows, noise: Tensor, end: int) -> tuple[Tensor, Tensor]:
        nonlocal current
        try:
            return current(model, past, rows, noise, end)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            # Nothing was lost: a step writes the same places of `past` again.
            reason = str(error).strip().split("\n", 1)[0]
            log.warning("--compile does not work here (%s); going on without it.", reason)
            current = step
            return step(model, past, rows, noise, end)

    return run
