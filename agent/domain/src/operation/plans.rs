//! Plans that were shown and may be run: random, bound to who asked, once, within ten minutes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Reason, Result};
use crate::ids::Subject;

/// How long a plan may be run, from the end of planning.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// More than this many of one subject push out its oldest.
const PER_SUBJECT: usize = 32;

#[derive(Default)]
pub(super) struct Plans(Mutex<BTreeMap<String, Entry>>);

struct Entry {
    subject: Subject,
    digest: String,
    /// Monotonic.
    expires: Duration,
    used: bool,
}

/// A plan that nobody else can use now; given back when dropped, gone when [`Reserved::spend`].
pub(super) struct Reserved<'a> {
    plans: &'a Plans,
    id: String,
    digest: String,
}

impl Plans {
    pub(super) fn keep(&self, id: &str, subject: &Subject, digest: &str, now: Duration) {
        let mut plans = self.plans();
        plans.retain(|_, plan| plan.expires > now);
        let of_subject = plans.iter().filter(|(_, plan)| plan.subject == *subject);
        let oldest = of_subject.clone().min_by_key(|(_, plan)| plan.expires).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest.filter(|_| of_subject.count() >= PER_SUBJECT) {
            plans.remove(&oldest);
        }
        let (subject, digest) = (subject.clone(), digest.to_owned());
        plans.insert(id.to_owned(), Entry { subject, digest, expires: now + LIFE, used: false });
    }

    /// Takes the plan for its one use.
    ///
    /// # Errors
    /// `PLAN_STALE`; another subject's plan is answered like one that never was.
    pub(super) fn reserve(&self, id: &str, subject: &Subject, now: Duration) -> Result<Reserved<'_>> {
        let mut plans = self.plans();
        let plan = plans.get_mut(id).filter(|plan| plan.subject == *subject);
        let why = match &plan {
            None => "there is no such plan of yours; plans are forgotten when the agent restarts",
            Some(plan) if plan.used => "this plan has been used; a plan is for one use",
            Some(plan) if plan.expires <= now => "this plan is older than 10 minutes",
            Some(_) => "",
        };
        match plan {
            Some(plan) if why.is_empty() => {
                plan.used = true;
                Ok(Reserved { plans: self, id: id.to_owned(), digest: plan.digest.clone() })
            }
            _ => Err(stale(why)),
        }
    }

    fn plans(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved<'_> {
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn spend(mut self) {
        self.id.clear();
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(plan) = self.plans.plans().get_mut(&self.id) {
            plan.used = false;
        }
    }
}

/// The answer when what was shown is not what would be done.
pub(super) fn stale(why: &str) -> Error {
    Error::new(Reason::PlanStale, why).effect("nothing was done")
}
