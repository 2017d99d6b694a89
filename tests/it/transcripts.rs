//! The proof of the contract: every exchange that was recorded with the original is replayed against this relay, and the
//! answers are compared. What differs on purpose stands in one table, with its reason; anything else fails.

mod compare;
mod recorded;
mod table;
mod world;

use recorded::Recorded;
use std::collections::HashMap;
use world::{Place, World};

#[test]
fn every_recorded_exchange_is_answered_as_by_the_original_or_differs_as_the_table_says() {
    let mut worlds: HashMap<Place, World> = HashMap::new();
    let mut unused: Vec<bool> = vec![true; table::DIFFERENCES.len()];
    let (mut wrong, mut same, mut different) = (Vec::new(), 0, 0);
    for name in recorded::names() {
        let place = world::place_of(&name);
        let world = worlds.entry(place).or_insert_with(|| World::start(place));
        let recorded: Recorded = recorded::read(&name, &world.replaced);
        let got = world.replay(&recorded);
        let found = compare::differences(&recorded, got.as_ref());
        if found.is_empty() {
            same += 1
        } else {
            different += 1
        }
        for difference in &found {
            match table::row_of(&recorded, &difference.place) {
                Some(row) => unused[row] = false,
                None => wrong
                    .push(format!("{name}: {}\n    {}\n    {}", difference.place, difference.recorded, difference.got)),
            }
        }
        for row in table::expected(&recorded) {
            if !found.iter().any(|difference| table::DIFFERENCES[row].covers(&difference.place)) {
                wrong.push(format!("{name}: no longer differs as row {row} says: {}", table::DIFFERENCES[row].reason));
            }
        }
    }
    for (row, is_unused) in unused.iter().enumerate() {
        if *is_unused {
            wrong.push(format!("row {row} is about nothing: {}", table::DIFFERENCES[row].reason));
        }
    }
    println!("{same} the same, {different} different by the table");
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(same + different, 222);
}
