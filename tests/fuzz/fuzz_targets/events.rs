//! The event scanner: a stream gives the same reading however it is cut.
#![no_main]

use claude_relay::claude::events::Scanner;
use libfuzzer_sys::fuzz_target;

fn reading(scanner: &Scanner) -> (String, Option<String>, bool, bool, bool) {
    let usage = format!("{:?}", scanner.usage());
    let error = scanner.error().map(|error| format!("{error:?}"));
    (usage, error, scanner.saw_start(), scanner.saw_stop(), scanner.at_boundary())
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (cuts, stream) = input;
    let mut whole = Scanner::new();
    whole.feed(&stream);
    let (mut pieces, mut rest) = (Scanner::new(), stream.as_slice());
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.feed(piece);
        rest = after;
    }
    pieces.feed(rest);
    assert_eq!(reading(&whole), reading(&pieces));
});
