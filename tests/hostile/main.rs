//! Peers that lie, damage, stall and go (invariants I2, I3 and I6).
//!
//! # The rules of a ring whose peers may be malicious
//! | rule | tests |
//! |---|---|
//! | 1 one writer per word; one's own words are private, and never read back | `rule_1_nobody_reads_its_own_words_back` |
//! | 2 each word of a peer is loaded once, and the copy is judged and used | `rule_2_a_header_is_loaded_once_for_each_record`, `rule_2_a_cursor_is_loaded_once_for_each_scan`, `rule_2_a_word_that_changes_between_two_loads_leads_nowhere`; fuzz `hostile_reads` |
//! | 3 indices masked, no sum that may wrap | `rule_3_no_header_at_any_place_leads_out_of_the_data_area`; fuzz `attach` |
//! | 4 what cannot be poisons the handle (a word of the registry is passed over), never loops or panics | `rule_4_an_impossible_header_poisons_the_reader_and_says_what_it_saw`, `rule_4_a_cursor_that_no_reader_can_have_is_passed_over`, `rule_4_a_writer_whose_number_was_changed_is_poisoned`, `an_ordinary_lap_is_never_taken_for_corruption`, `a_poisoned_reader_says_so_in_every_call`; `tests/format.rs`: `a_word_that_no_record_can_begin_with_is_corrupt_and_final` |
//! | 5 the geometry is checked against the mapping, and private from then on | `rule_5_headers_that_change_after_the_open_change_nothing`; `tests/format.rs`: `every_damaged_field_is_refused_by_its_name`, `files_of_every_shorter_length_are_truncated_and_not_a_bus_error` |
//! | 6 readers' words hold the writer back, and nothing else | `rule_6_a_writer_with_lossy_readers_looks_at_no_slot`, `rule_6_no_word_of_the_registry_pushes_the_limit`, `rule_6_every_forged_cursor_can_be_passed_over`; `tests/format.rs`: `a_forged_cursor_evicts_at_most_its_owner`; fuzz `hostile_registry` |
//! | 7 readers' words apart; the ring mapped read-only | `rule_7_a_reader_maps_the_ring_read_only` |
//! | 8 bounded work for each call | `rule_8_every_call_of_a_reader_ends`, `rule_8_every_call_of_a_writer_ends`; `tests/kill_points`: `a_reader_stopped_anywhere_...`, `a_reader_beside_a_writer_stopped_anywhere_...` |
//! | 9 a hostile waiter costs wakes and slices | `rule_9_flags_that_are_always_set_cost_one_wake_for_each_record`, `rule_9_a_wait_ends_at_its_deadline_whatever_the_wake_words_say` |
//! | 10 no SIGBUS where it can be prevented | `rule_10_the_registry_of_a_memfd_ring_cannot_be_truncated_by_who_can_write_it`; `tests/failures.rs`: `a_full_file_system_is_an_error_and_never_a_bus_error`; `segment/memfd.rs`: `what_is_not_a_sealed_memfd_is_refused` |
//! | 11 copy, validate, then parse; nothing lent that can change | `rule_11_what_changes_under_a_copy_is_void_or_comes_out_as_it_was_copied`, `rule_11_nothing_is_lent_where_a_peer_could_change_it`; `tests/typed`: `a_record_that_is_no_value_is_told_and_skipped` |
//! | 12 nothing older shows through | `rule_12_no_older_bytes_show_in_a_record_or_in_its_padding`; `tests/behaviour`: `what_a_claim_leaves_out_is_zero` |
//!
//! # Failures of peers that were seen elsewhere
//! | failure | tests |
//! |---|---|
//! | one stray 8-byte store made a reader deaf for ever | `no_stray_store_makes_a_reader_deaf_without_a_word` |
//! | header words re-read after they were checked crashed attach | `rule_5_headers_that_change_after_the_open_change_nothing`, `a_ring_that_is_scribbled_on_ends_no_process`; fuzz `attach` |
//! | a truncated file or a full tmpfs killed the writer | rule 10 |
//! | a consumer's cursor that lies granted the producer memory | rule 6, `a_state_that_is_none_is_nobodys` |
//! | a receiver used `length` before validating it | rules 3 and 11 |
//! | a lapped reader was put back where it is lapped again at once | `tests/behaviour`: `readers_that_are_lapped_all_the_time_...` |
//!
//! Real processes that scribble: `scribbler`.

mod bounds;
mod eviction;
mod joins;
mod rules;
mod scribbler;
#[path = "../support/mod.rs"]
mod support;
mod words;

use std::path::Path;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = support::role() else { return };
    let path = Path::new(arguments.first().map_or("", String::as_str));
    match role.as_str() {
        "shows its mappings" => bounds::show_mappings(path),
        "joins, then goes" => eviction::visit(path),
        "scribbler" | "writer" | "lossless reader" | "lossy reader" | "opener" => {
            scribbler::play(&role, path, &arguments)
        }
        other => panic!("no role {other:?}"),
    }
}
