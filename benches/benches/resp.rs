//! What decoding a request and encoding a reply cost, per request.
//!
//! Goals: a SET of 100 bytes decodes within 40 ns, and nothing allocates once buffers are warm.

use std::hint::black_box;

use ashlar_node::resp::decode::{Decoded, Decoder, Limits};
use ashlar_node::resp::encode::Encoder;
use ashlar_node::resp::{Spans, Version};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Largest word the decoder accepts here; the limit's size does not change the cost.
const VALUE_BYTES_MAX: u32 = 64 << 20;

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, Version::Resp2);
    encoder.array(words.len());
    words.iter().for_each(|word| encoder.bulk(word));
    out
}

/// Decodes all of `input`, and returns the number of words in it.
fn decode_all(decoder: &mut Decoder, spans: &mut Spans, input: &[u8]) -> usize {
    let (mut rest, mut words) = (input, 0);
    while let Ok(Decoded::Command { consumed }) = decoder.decode(rest, spans) {
        words += spans
            .words(rest)
            .iter()
            .map(|word| word.len().min(1))
            .sum::<usize>();
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty(), "every benchmark input is whole requests");
    words
}

fn decode(criterion: &mut Criterion) {
    let set = request(&[b"SET", b"key:000000000042", &[b'v'; 100]]);
    let get = request(&[b"GET", b"key:000000000042"]);
    let inputs = [
        ("decode/set_100", 1, set.clone()),
        ("decode/get", 1, get),
        ("decode/set_100_pipeline_16", 16, set.repeat(16)),
        ("decode/inline_get", 1, b"GET key:000000000042\r\n".to_vec()),
    ];
    for (name, requests, input) in inputs {
        let mut decoder = Decoder::new(Limits::authenticated(VALUE_BYTES_MAX));
        let mut spans = Spans::new();
        let mut group = criterion.benchmark_group("resp");
        group.throughput(Throughput::Elements(requests));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode_all(&mut decoder, &mut spans, black_box(&input)));
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let value = [b'v'; 100];
    let mut out = Vec::with_capacity(4096);
    let mut group = criterion.benchmark_group("resp");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode/bulk_100", |bencher| {
        bencher.iter(|| {
            out.clear();
            Encoder::new(&mut out, Version::Resp3).bulk(black_box(&value));
            black_box(out.len())
        });
    });
    group.bench_function("encode/integer", |bencher| {
        bencher.iter(|| {
            out.clear();
            Encoder::new(&mut out, Version::Resp3).integer(black_box(1_234_567_890));
            black_box(out.len())
        });
    });
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
