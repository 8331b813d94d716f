// The decoder's functions that native_codec.py calls.
#include "codec/decoder.hpp"

using namespace fish;

extern "C" {
int fish_decoder_vector() { return W; }
int fish_decoder_panel() { return PANEL * W; }

StreamingDecoder* fish_decoder_new(const Decoder* decoder, ThreadPool* pool) {
    return made([&] { return new StreamingDecoder(*decoder, *pool); });
}
void fish_decoder_delete(StreamingDecoder* decoder) { delete decoder; }

DecoderStream* fish_decoder_stream(const StreamingDecoder* decoder) {
    return made([&] { return decoder->stream(); });
}
void fish_decoder_stream_delete(DecoderStream* stream) { delete stream; }

Status fish_decoder_push(StreamingDecoder* decoder, DecoderStream* stream, const float* latent, int frames,
                         float* samples) {
    return guarded(decoder->pool, [&] { return decoder->push(*stream, latent, frames, samples); });
}
}
