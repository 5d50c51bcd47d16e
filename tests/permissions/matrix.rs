//! The matrix: person x mode x kind x operation.

use shmcast::Options;

use crate::people::{Person, can_be_others};
use crate::scene::{For, Kind, Part, Scene, Spot, errno, open_again_to_write, variant};
use crate::support::say;

/// What one person may do to a ring: each includes what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Nothing,
    Follow,
    Read,
    Everything,
}

fn level(person: Person, whom: For) -> Level {
    use Level::{Everything, Follow, Nothing, Read};
    // In the order of `For::ALL`.
    let levels = match person {
        Person::Owner | Person::Root => [Everything; 6],
        Person::Member => [Nothing, Follow, Follow, Read, Read, Read],
        Person::Other => [Nothing, Nothing, Follow, Nothing, Read, Follow],
    };
    levels[For::ALL.into_iter().position(|other| other == whom).expect("it is one of them")]
}

const OPERATIONS: [&str; 14] = [
    "create",
    "take over",
    "follow",
    "follow unasked",
    "join",
    "borrow",
    "map ring",
    "make ring writable",
    "map registry",
    "truncate ring",
    "truncate registry",
    "open ring again",
    "lock as writer",
    "remove",
];

/// What an operation must answer.
fn expected(kind: Kind, person: Person, whom: For, operation: &str) -> String {
    let level = level(person, whom);
    // What the person may do in the directory of the ring does not depend on the ring.
    let foreign_directory = kind == Kind::Named && person != Person::Owner;
    let from = |least: Level, otherwise: &str| if level >= least { "Ok" } else { otherwise }.to_owned();
    let unwritable = |least: Level| from(least, "EACCES");
    match operation {
        // The ring directory is the owner's, so only he may create in it; elsewhere the name is taken.
        "create" if foreign_directory => "RingDirectory".to_owned(),
        "create" => "NameTaken".to_owned(),
        "take over" if foreign_directory => "RingDirectory".to_owned(),
        // Root could open it, but the ring is another user's, who could feed it anything.
        "take over" => if person == Person::Owner { "WriterAlive" } else { "TakeOver" }.to_owned(),
        "follow" => from(Level::Follow, "Permission"),
        // Anybody can take a name in /dev/shm, or a key.
        "follow unasked" if level >= Level::Follow && person != Person::Owner => match kind {
            Kind::Posix | Kind::Sysv => "ForeignOwner".to_owned(),
            Kind::File | Kind::Named => "Ok".to_owned(),
        },
        "follow unasked" => from(Level::Follow, "Permission"),
        "join" if level == Level::Follow => "NeedsRegistry".to_owned(),
        "join" => from(Level::Read, "Permission"),
        // From a ring that nobody else can write, its registry included; root's trust is in root alone.
        "borrow" => {
            let private = matches!(whom, For::Me | For::GroupToFollow | For::AllToFollow);
            if private && person == Person::Owner { "yes" } else { "no" }.to_owned()
        }
        "map ring" | "truncate ring" | "open ring again" => unwritable(Level::Everything),
        // By a descriptor that only reads, whoever has it.
        "make ring writable" => "EACCES".to_owned(),
        "map registry" | "truncate registry" => unwritable(Level::Read),
        "lock as writer" => {
            let least = if kind == Kind::Named { Level::Everything } else { Level::Read };
            if level >= least { "EAGAIN" } else { "EACCES" }.to_owned()
        }
        "remove" => from(Level::Everything, "Permission"),
        other => panic!("no operation {other:?}"),
    }
}

/// Tries everything, in the order of [`OPERATIONS`].
pub(crate) fn act(spot: &Spot, person: Person) {
    person.act();
    let lossy = Options::new().lossy(true);
    for operation in OPERATIONS {
        let answer = match operation {
            "create" => variant(spot.create(&For::Me.options())),
            "take over" => spot.take_over(&For::Me.options()).map_or_else(none, variant),
            "follow" => variant(spot.open(&lossy.clone().owner(Person::Owner.uid())).inspect(|reader| {
                assert!(!reader.can_borrow(), "a lossy reader");
            })),
            "follow unasked" => variant(spot.open(&lossy)),
            "join" => variant(spot.open(&Options::new().owner(Person::Owner.uid())).map(|mut reader| {
                assert_eq!(reader.recv().map(|record| record.payload), Ok(b"seen".to_vec()));
                reader
            })),
            "borrow" => {
                let joined = spot.open(&Options::new().owner(Person::Owner.uid()));
                if joined.is_ok_and(|reader| reader.can_borrow()) { "yes" } else { "no" }.to_owned()
            }
            "map ring" => errno(spot.map_to_write(Part::Ring)),
            "map registry" => errno(spot.map_to_write(Part::Registry)),
            // These are of files.
            _ if operation != "remove" && spot.kind == Kind::Sysv => none(),
            "make ring writable" => errno(spot.make_writable(Part::Ring)),
            "truncate ring" => errno(spot.truncate(Part::Ring)),
            "truncate registry" => errno(spot.truncate(Part::Registry)),
            "open ring again" => errno(open_again_to_write(&spot.file(Part::Ring))),
            "lock as writer" => errno(spot.lock_like_a_writer()),
            "remove" => variant(spot.remove()),
            other => panic!("no operation {other:?}"),
        };
        say(format_args!("{operation}: {answer}"));
    }
}

fn none() -> String {
    "-".to_owned()
}

fn check(kind: Kind) {
    if !can_be_others() {
        return;
    }
    for person in Person::ALL {
        for whom in For::ALL {
            let mut scene = Scene::new(kind, whom);
            let mut actor = scene.start("actor", &[&format!("{person:?}")]);
            let mut line = format!("{kind:?}, for {whom:?}: {person:?}");
            for operation in OPERATIONS {
                let answer = actor.expect(&format!("{operation}:"));
                let expected = expected(kind, person, whom, operation);
                assert!(answer == expected || answer == "-", "{line}: {operation}: {answer}, not {expected}");
                assert!(answer != "-" || kind == Kind::Sysv, "only what there is none of is not tried");
                line += &format!(", {operation} {answer}");
            }
            actor.finish();
            println!("{line}");
            // Whatever was tried, the writer goes on; and its end removes what is left.
            scene.owner.tell("publish");
            assert_eq!(scene.owner.expect("published"), "Ok(1)");
            scene.owner.tell("close");
            scene.owner.expect("closed");
            if kind != Kind::Sysv {
                assert!(!scene.spot.file(Part::Ring).exists() && !scene.spot.file(Part::Registry).exists());
            }
        }
    }
}

#[test]
fn the_matrix_of_files() {
    check(Kind::File);
}

#[test]
fn the_matrix_of_named_rings() {
    check(Kind::Named);
}

#[test]
fn the_matrix_of_posix_shared_memory() {
    check(Kind::Posix);
}

#[test]
fn the_matrix_of_system_v_shared_memory() {
    check(Kind::Sysv);
}
