//! Who may do what to a ring: real processes of other users, for each kind and each mode. `cargo test --test permissions --
//! --show-output the_matrix` prints the matrix. What each of them can do at worst is in `trust.rs`.

mod deaths;
mod descriptors;
mod directories;
mod matrix;
mod people;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod trust;

use scene::{For, Spot};
use support::{hear, role, say};

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("owner", [kind, address, whom]) => owner(&Spot::of(kind, address), For::of(whom)),
        ("actor", [kind, address, person]) => matrix::act(&Spot::of(kind, address), people::Person::of(person)),
        (role, arguments)
            if directories::play(role, arguments)
                || descriptors::play(role, arguments)
                || trust::play(role, arguments) => {}
        other => panic!("no role {other:?}"),
    }
}

/// Creates a ring, publishes what it is told to, and stays.
fn owner(spot: &Spot, whom: For) {
    people::Person::Owner.act();
    // Whatever it is.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut writer = spot.create(&whom.options()).unwrap_or_else(|error| panic!("{error}"));
    writer.publish(b"seen").expect("room");
    say("created");
    loop {
        match hear().as_str() {
            "publish" => {
                let published = writer.publish_timeout(&[7; 100], std::time::Duration::from_millis(50));
                say(format_args!("published {published:?}"));
            }
            "close" => break,
            other => panic!("no word {other:?}"),
        }
    }
    drop(writer);
    say("closed");
}
