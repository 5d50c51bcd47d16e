//! The stacks of the parties, and the loop that gives each its turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use generator::{Generator, Gn};

use super::stage::{Mode, Stage};

/// Words of a party's stack: 256 KiB, most of which is never touched.
const STACK_WORDS: usize = 1 << 15;

/// A party's program.
pub(super) type Program = fn(&Rc<Stage>, usize);

type Job = Box<dyn FnOnce()>;

/// Stacks that are used again for each schedule.
#[derive(Default)]
pub(super) struct Stacks(Vec<Generator<'static, Job, ()>>);

/// Gives the thread of the system back to the stage.
pub(super) fn switch() {
    #[expect(
        deprecated,
        reason = "the other way hands a value down through every call, and there is none in a trait's method"
    )]
    generator::yield_with(());
}

fn next_job() -> Option<Job> {
    #[expect(deprecated, reason = "as in `switch`")]
    generator::yield_::<Job, ()>(())
}

impl Stacks {
    fn start(&mut self, index: usize, job: Job) {
        while self.0.len() <= index {
            let mut stack = Gn::new_opt(STACK_WORDS, || {
                while let Some(job) = next_job() {
                    job();
                }
            });
            stack.resume();
            self.0.push(stack);
        }
        self.0[index].set_para(job);
    }

    /// Plays a schedule: each program once, by turns. Answers what failed.
    pub(super) fn play(&mut self, stage: &Rc<Stage>, programs: &[Program]) -> Option<String> {
        for (index, &program) in programs.iter().enumerate() {
            let stage = Rc::clone(stage);
            self.start(
                index,
                Box::new(move || {
                    let end = catch_unwind(AssertUnwindSafe(|| program(&stage, index)));
                    stage.ended(index, end);
                }),
            );
        }
        let mut started = 0u32;
        loop {
            let next = {
                let mut state = stage.state.borrow_mut();
                if state.aborted {
                    // One after the other unwinds.
                    let next = state.parties.iter().position(|party| !party.is_over());
                    state.current = next.unwrap_or(0);
                    if let Some(party) = next
                        && started >> party & 1 == 0
                    {
                        // It has not begun, and need not.
                        state.set(party, Mode::Done);
                        drop(state);
                        self.0[party].set_para(Box::new(|| {}));
                        self.0[party].resume();
                        continue;
                    }
                    next
                } else if state.ready >> state.current & 1 == 1 && state.burst > 0 {
                    Some(state.current)
                } else {
                    state.draw()
                }
            };
            let Some(next) = next else {
                let (over, aborted) = {
                    let state = stage.state.borrow();
                    let over = state.parties.iter().all(|party| party.is_over() || party.mode == Mode::Waiting);
                    (over, state.aborted)
                };
                if aborted {
                    break;
                }
                if over || !stage.rest_of_all() {
                    let mut state = stage.state.borrow_mut();
                    if !state.aborted && !over {
                        state.fail("a deadlock: nobody can go on, and not all have ended".to_owned());
                    }
                    if state.aborted {
                        continue;
                    }
                    break;
                }
                continue;
            };
            started |= 1 << next;
            self.0[next].resume();
        }
        // Who was never needed has not begun.
        for (index, stack) in self.0.iter_mut().enumerate().take(programs.len()) {
            if started >> index & 1 == 0 && stage.state.borrow().parties[index].mode == Mode::Waiting {
                stack.set_para(Box::new(|| {}));
                stack.resume();
            }
        }
        let state = stage.state.borrow();
        state.failure.as_ref().map(|why| format!("{why}\n{}", state.report()))
    }
}
