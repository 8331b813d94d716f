"""The codec's decoder on a GPU: on a stream of its own beside the language model, its pieces recorded as CUDA graphs.

Codes come from the CPU and samples go back there, so the two streams share no tensor but the weights. A piece is begun
by the model thread, which goes on to the next decode step; the reader of the audio waits for it.

All is float32, without TF32: at 1.3 billion multiplications a frame, 64 streams in real time need 3.6 TFLOP/s, a few
percent of what a GPU has. In bfloat16 the vocoder would be inaudibly different (noise 45 dB below the built-in voice,
spectra 0.25 dB apart; tests/test_cuda.py measures it), but no device has shown yet that it is faster.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from fishcli.codec.firefly import Firefly, check_codes
from fishcli.codec.layers import ConvState
from fishcli.runners.recorder import Receiver, Recorder, Recording

log = logging.getLogger(__name__)

SIZES = (4, 8, 16)  # frames of the pieces that are recorded; others run operation by operation
_LONGEST = SIZES[-1]


class RecordedDecoder:
    """Decodes codes as `codec` does, for any number of streams, one call at a time, all in the same thread.

    `record`: False runs all pieces operation by operation. Where recording fails, a warning says why, and they do too.
    """

    def __init__(self, codec: Firefly, record: bool = True) -> None:
        self.codec, self.settings = codec, codec.settings
        self.recorder = Recorder(codec.device)
        self._recordings: dict[int, tuple[Tensor, Recording[Tensor]]] = {}  # by size: the codes that one reads, itself
        with torch.inference_mode(), self.recorder.on_stream():
            state: ConvState = {}
            codec.decode_piece(torch.zeros(self.settings.codebooks, 1, dtype=torch.int64, device=codec.device), state)
            self._layers: dict[nn.Module, torch.Size] = {layer: kept.shape for layer, kept in state.items()}
            # The conv state that a recording reads and writes, of all layers in one tensor.
            self.state = torch.zeros(sum(kept.numel() for kept in state.values()), device=codec.device)
            if record:
                self._record()

    @property
    def works(self) -> bool:
        """Whether every size is recorded."""
        return len(self._recordings) == len(SIZES)

    def stream(self) -> RecordedStream:
        """Return a streaming decoder of one sequence of codes."""
        return RecordedStream(self)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the samples (T * frame,) float32, on the CPU, of codes (K, T). Raises InputError."""
        return self.stream().push(codes)

    def piece(self, codes: Tensor, state: Tensor) -> Tensor:
        """Return the samples of a piece (K, t) on the CPU, whose conv state is updated; on the recorder's stream."""
        codes = _sent(codes, self.codec.device)
        if codes.shape[1] not in self._recordings:
            return self._plain(codes, state)
        given, recording = self._recordings[codes.shape[1]]
        given.copy_(codes)
        self.state.copy_(state)
        samples = recording.replay().clone()  # the next replay overwrites them
        state.copy_(self.state)
        return samples

    def _record(self) -> None:
        """Record pieces of each size, before there are others whose work on the stream would be recorded, too."""
        try:
            for size in SIZES:
                given = torch.zeros(self.settings.codebooks, size, dtype=torch.int64, device=self.codec.device)
                recording = self.recorder.record(partial(self._plain, given, self.state))
                self._recordings[size] = given, recording
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of CUDA and its libraries
            log.warning("The vocoder cannot be recorded here (%s); going on without.", str(error).split("\n")[0])

    def _plain(self, codes: Tensor, state: Tensor) -> Tensor:
        """Decode a piece (K, t) on the device. No size depends on data, and nothing is waited for."""
        parts = state.split([shape.numel() for shape in self._layers.values()])
        views = {layer: part.view(shape) for (layer, shape), part in zip(self._layers.items(), parts, strict=True)}
        samples = self.codec.decode_piece(codes, views)
        state.copy_(torch.cat([views[layer].flatten() for layer in self._layers]))
        return samples


class RecordedStream:
    """A streaming decoder of one sequence of codes, as `firefly.StreamingDecoder` is."""

    def __init__(self, decoder: RecordedDecoder) -> None:
        self._decoder = decoder
        self._state: Tensor | None = None  # of the thread that decodes: nobody else uses the recorder's stream

    def push(self, codes: Tensor) -> Tensor:
        """Return the samples (t * frame,) float32, on the CPU, of the next codes (K, t). Raises InputError."""
        return self.begin(codes)()

    @torch.inference_mode()
    def begin(self, codes: Tensor) -> Callable[[], Tensor]:
        """Begin to decode the next codes (K, t) -> a function that waits for their samples. Raises InputError.

        Any thread may call the function, once.
        """
        decoder = self._decoder
        check_codes(codes, decoder.settings)
        if not codes.shape[1]:
            return lambda: torch.empty(0)
        with decoder.recorder.on_stream():
            if self._state is None:
                self._state = torch.zeros_like(decoder.state)
            pieces = torch.split(codes, _LONGEST, dim=1)
            samples = torch.cat([decoder.piece(piece, self._state) for piece in pieces])
            receiver = Receiver(samples)
            receiver.begin(samples)
        return lambda: receiver.wait().clone()  # its own memory is page-locked, which is scarce


def _sent(codes: Tensor, device: torch.device) -> Tensor:
    """Return codes on a device. The copy waits for nothing: its page-locked source is kept until it is done."""
    codes = codes.long().contiguous()
    return codes.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else codes.to(device)
