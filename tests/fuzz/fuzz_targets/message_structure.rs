//! The walker: parts nest, follow one another, and are found by their numbers.
#![no_main]

use gatepost::message::mime::MAX_PARTS;
use gatepost::message::{Section, Shape, Structure, search};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let structure = Structure::scan(input);
    assert!(structure.parts().len() <= MAX_PARTS);
    assert_eq!(structure.root().whole, 0..input.len());
    for part in structure.parts() {
        assert!(part.whole.start == part.header.start && part.header.end == part.body.start && part.body.end == part.whole.end);
        assert_eq!(part.lines, input[part.body.clone()].iter().filter(|b| **b == b'\n').count());
        assert_eq!(part.shape == Shape::Leaf, part.children.is_empty());
        let mut at = part.body.start;
        for child in structure.children(part) {
            assert!(at <= child.whole.start && child.whole.end <= part.body.end);
            at = child.whole.end;
        }
        let _ = search::leaf_text(input, part, 1000);
        let _ = part.filename();
    }
    let path: Vec<u32> = input.iter().take(5).map(|b| u32::from(b % 4)).collect();
    for section in [Section::Content, Section::Header, Section::Text, Section::Mime] {
        assert!(structure.section(&path, section).is_none_or(|range| input.get(range).is_some()));
    }
});
