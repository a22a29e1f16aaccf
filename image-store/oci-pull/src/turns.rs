//! Places for long work, given to users in turn: who asks for a thousand images holds up nobody
//! else.
//!
//! A free place goes to the user who waits and holds the fewest places; of equals to the one who
//! was served longest ago, or not at all. A user's own requests go in their order. The last free
//! place is kept for users who hold none, so that a single user has all places but one, and whoever
//! comes next need not wait for the end of somebody's transfer. Nor has anybody more than a share
//! for long while others wait: of who holds two more than a user who has waited for a while, the
//! newest place is *recalled*. Work that can go on later gives it back and asks again.
//!
//! ```text
//! claim:  idle ─ permit() ─▶ waiting ─ its turn ─▶ holding ─ its last Permit is dropped ─▶ idle
//! ```

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

/// A number of places, given to users in turn. Clones share them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    places: usize,
    taken: usize,
    next_claim: u64,
    /// Counts requests and grants, which it so puts into an order.
    events: u64,
    claims: HashMap<u64, ClaimState>,
    /// Users who have claims.
    users: BTreeMap<Arc<str>, UserState>,
    /// The claim whose place is recalled; one at a time, so that nobody gives more than is needed.
    recalled: Option<u64>,
}

#[derive(Debug)]
struct ClaimState {
    user: Arc<str>,
    /// How many [`Permit`]s share its one place, or wait for it.
    guards: usize,
    at: ClaimPosition,
    /// Is told when the place that it has is recalled.
    recall: Arc<Notify>,
}

#[derive(Debug)]
enum ClaimPosition {
    Idle,
    Waiting { number: u64, told: Vec<oneshot::Sender<()>> },
    Holding { since: u64 },
}

#[derive(Debug, Default)]
struct UserState {
    claims: usize,
    /// Claims that hold a place, by when they were given it.
    holding: BTreeMap<u64, u64>,
    /// When it was given a place last; 0: not yet.
    served: u64,
    /// Claims that wait, by the number of their request.
    waiting: BTreeMap<u64, u64>,
}

/// Something of a user that wants a place now and then, and has one at a time. Clones are the same
/// claim.
#[derive(Clone)]
pub struct Claim(Arc<ClaimId>);

struct ClaimId {
    turns: Turns,
    id: u64,
}

/// A place, or a share of the one place of a [`Claim`]; it is free when all are dropped.
#[derive(Debug)]
#[must_use = "dropped, it frees the place"]
pub struct Permit(Claim);

/// Where a claim stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests of the same user before it.
    pub own_before: usize,
    /// Requests of other users before it.
    pub others_before: usize,
    /// Requests in the queue, this one among them.
    pub waiting: usize,
    /// Places that the user holds.
    pub held: usize,
    /// Places that there are.
    pub places: usize,
    /// Whether a place is free, and kept for users who hold none.
    pub is_kept: bool,
}

impl Turns {
    /// So many places, at least one.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let (claims, users) = (HashMap::new(), BTreeMap::new());
        let places = places.max(1);
        let book =
            Book { places, taken: 0, next_claim: 0, events: 0, claims, users, recalled: None };
        Self(Arc::new(Mutex::new(book)))
    }

    /// A claim of a user. It waits for nothing yet.
    #[must_use]
    pub fn claim(&self, user: &str) -> Claim {
        let mut book = self.book();
        let id = book.next_claim;
        book.next_claim += 1;
        let user = book.enter(user);
        let recall = Arc::default();
        book.claims.insert(id, ClaimState { user, guards: 0, at: ClaimPosition::Idle, recall });
        drop(book);
        Claim(Arc::new(ClaimId { turns: self.clone(), id }))
    }

    /// How many claims wait for a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.book().waiting()
    }

    /// Every change is whole: a poisoned lock guards a good book.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Waits for a place. Whoever drops this future leaves the queue. Once more while the claim has
    /// its place, it is a share of that.
    pub async fn permit(&self) -> Permit {
        let granted = self.0.turns.book().ask(self.0.id);
        let permit = Permit(self.clone());
        if let Some(granted) = granted {
            // Its sender is kept until it is used, as long as `permit` is there.
            let _ = granted.await;
        }
        permit
    }

    /// The same; each time that it has waited for so long, a place is recalled of a user who holds
    /// two more. All who hold places must heed [`Permit::recalled`].
    pub async fn shared_permit(&self, patience: Duration) -> Permit {
        let mut permit = pin!(self.permit());
        loop {
            match timeout(patience, &mut permit).await {
                Ok(permit) => return permit,
                Err(_) => self.0.turns.book().recall(self.0.id),
            }
        }
    }

    /// From now on it counts for another user, with the place that it has.
    pub fn give_to(&self, user: &str) {
        self.0.turns.book().give(self.0.id, user);
    }

    /// Where it stands in the queue; `None` if it is in none.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.0.turns.book().standing(self.0.id)
    }
}

impl Permit {
    /// Ends when the place is wanted back: drop it, and ask again for the rest of the work.
    pub async fn recalled(&self) {
        let ClaimId { turns, id } = &*self.0.0;
        let recall = turns.book().claims.get(id).map(|claim| claim.recall.clone());
        match recall {
            Some(recall) => recall.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.0.id).finish()
    }
}

impl Drop for ClaimId {
    fn drop(&mut self) {
        self.turns.book().forget(self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.turns.book().release(self.0.0.id);
    }
}

impl Standing {
    /// For people. `whose`: "this user", or whom the claim counts for.
    #[must_use]
    pub fn told(&self, whose: &str) -> String {
        let Self { own_before, others_before, waiting, held, places, is_kept } = *self;
        let number = own_before + others_before + 1;
        let before = match (own_before, others_before) {
            (0, 0) => String::new(),
            (own, 0) => format!(", behind {own} of {whose}"),
            (0, others) => format!(", behind {others} of other users"),
            (own, others) => format!(", behind {own} of {whose} and {others} of other users"),
        };
        let limit = if is_kept {
            format!(
                "{whose} has {held} of the {places} places, and the last is kept for users who have none"
            )
        } else if held > 0 {
            format!("all {places} places are taken, {held} of them by {whose}")
        } else {
            format!("all {places} places are taken")
        };
        format!("number {number} of {waiting}{before}; {limit}")
    }
}

impl UserState {
    /// Whose turn it is: the smallest is next. `None` if nothing of the user waits.
    fn turn(&self) -> Option<(usize, u64, u64)> {
        Some((self.held(), self.served, *self.waiting.first_key_value()?.0))
    }

    fn held(&self) -> usize {
        self.holding.len()
    }
}

impl Book {
    /// A claim of the user more.
    fn enter(&mut self, user: &str) -> Arc<str> {
        let user = match self.users.get_key_value(user) {
            Some((known, _)) => known.clone(),
            None => Arc::from(user),
        };
        self.users.entry(user.clone()).or_default().claims += 1;
        user
    }

    /// A claim of the user less.
    fn leave(&mut self, user: &str) {
        let Some(state) = self.users.get_mut(user) else { return };
        state.claims -= 1;
        if state.claims == 0 {
            self.users.remove(user);
        }
    }

    /// What tells when the claim has its place; `None` if it has it.
    fn ask(&mut self, id: u64) -> Option<oneshot::Receiver<()>> {
        self.events += 1;
        let number = self.events;
        let claim = self.claims.get_mut(&id)?;
        claim.guards += 1;
        let (sender, receiver) = oneshot::channel();
        match &mut claim.at {
            ClaimPosition::Holding { .. } => return None,
            ClaimPosition::Waiting { told, .. } => told.push(sender),
            ClaimPosition::Idle => {
                claim.at = ClaimPosition::Waiting { number, told: vec![sender] };
                if let Some(user) = self.users.get_mut(&claim.user) {
                    user.waiting.insert(number, id);
                }
            }
        }
        self.grant();
        Some(receiver)
    }

    /// Gives what is free to whom it is due.
    fn grant(&mut self) {
        while self.grant_next().is_some() {}
    }

    /// Gives one place, if one is free that may be given; to which claim.
    fn grant_next(&mut self) -> Option<u64> {
        let turns = self.users.iter().filter_map(|(name, user)| Some((user.turn()?, name)));
        let ((held, ..), name) = turns.min()?;
        let free = self.places - self.taken;
        // The smallest of all holds some: nobody who holds none waits.
        if free == 0 || (free == 1 && held > 0) {
            return None;
        }
        let name = name.clone();
        self.events += 1;
        let user = self.users.get_mut(&name)?;
        let (_, id) = user.waiting.pop_first()?;
        user.holding.insert(self.events, id);
        user.served = self.events;
        self.taken += 1;
        let claim = self.claims.get_mut(&id)?;
        let holding = ClaimPosition::Holding { since: self.events };
        if let ClaimPosition::Waiting { told, .. } = std::mem::replace(&mut claim.at, holding) {
            // Whoever is gone drops a `Permit`, which is counted.
            for told in told {
                let _ = told.send(());
            }
        }
        Some(id)
    }

    /// One guard of the claim is gone.
    fn release(&mut self, id: u64) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        claim.guards -= 1;
        if claim.guards > 0 {
            return;
        }
        // What was recalled is back, or was given back before that was heard.
        claim.recall = Arc::default();
        self.recalled.take_if(|recalled| *recalled == id);
        let user = self.users.get_mut(&claim.user);
        match (std::mem::replace(&mut claim.at, ClaimPosition::Idle), user) {
            (ClaimPosition::Holding { since }, user) => {
                self.taken -= 1;
                if let Some(user) = user {
                    user.holding.remove(&since);
                }
            }
            (ClaimPosition::Waiting { number, .. }, Some(user)) => {
                user.waiting.remove(&number);
            }
            (ClaimPosition::Waiting { .. } | ClaimPosition::Idle, _) => {}
        }
        self.grant();
    }

    fn give(&mut self, id: u64, user: &str) {
        if self.claims.get(&id).is_none_or(|claim| &*claim.user == user) {
            return;
        }
        let user = self.enter(user);
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let before = std::mem::replace(&mut claim.user, user.clone());
        match claim.at {
            ClaimPosition::Idle => {}
            ClaimPosition::Holding { since } => {
                if let Some(state) = self.users.get_mut(&before) {
                    state.holding.remove(&since);
                }
                if let Some(state) = self.users.get_mut(&user) {
                    state.holding.insert(since, id);
                }
            }
            ClaimPosition::Waiting { number, .. } => {
                if let Some(state) = self.users.get_mut(&before) {
                    state.waiting.remove(&number);
                }
                if let Some(state) = self.users.get_mut(&user) {
                    state.waiting.insert(number, id);
                }
            }
        }
        self.leave(&before);
        self.grant();
    }

    /// A claim has waited for long: recalls the newest place of who holds most, if that is two more
    /// than its user holds. Then neither has less than the other afterwards.
    fn recall(&mut self, id: u64) {
        let Some(ClaimState { user, at: ClaimPosition::Waiting { number, .. }, .. }) =
            self.claims.get(&id)
        else {
            return;
        };
        // Of each user the first in the queue asks.
        let own = self.users.get(user).filter(|own| own.waiting.keys().next() == Some(number));
        let most = self.users.values().max_by_key(|user| user.held());
        let (Some(own), Some(most), None) = (own, most, self.recalled) else { return };
        if most.held() < own.held() + 2 {
            return;
        }
        let newest = most.holding.last_key_value().map(|(_, claim)| *claim);
        if let Some(claim) = newest.and_then(|newest| self.claims.get(&newest)) {
            claim.recall.notify_one();
            self.recalled = newest;
        }
    }

    /// The claim is gone, and all its places are.
    fn forget(&mut self, id: u64) {
        if let Some(claim) = self.claims.remove(&id) {
            self.leave(&claim.user);
        }
    }

    fn waiting(&self) -> usize {
        self.users.values().map(|user| user.waiting.len()).sum()
    }

    /// In the order in which places would be given if none that is taken became free before: each
    /// user's first request counts with the places that he holds, his second with one more.
    fn standing(&self, id: u64) -> Option<Standing> {
        let claim = self.claims.get(&id)?;
        let ClaimPosition::Waiting { number, .. } = claim.at else { return None };
        let own = self.users.get(&claim.user)?;
        let own_before = own.waiting.range(..number).count();
        let (held, served, first) =
            (own.held() + own_before, own.served, *own.waiting.first_key_value()?.0);
        let before = |other: &UserState| {
            let Some((_, other_served, other_first)) = other.turn() else { return 0 };
            // Of two whose turn comes with equally many places, who has fewer now was served later.
            let is_first_of_equals = match own.held().cmp(&other.held()) {
                Ordering::Less => true,
                Ordering::Equal => (other_served, other_first) < (served, first),
                Ordering::Greater => false,
            };
            let earlier = held.saturating_sub(other.held());
            let with_equal = earlier + usize::from(is_first_of_equals && held >= other.held());
            with_equal.min(other.waiting.len())
        };
        let others = self.users.iter().filter(|(name, _)| **name != claim.user);
        Some(Standing {
            own_before,
            others_before: others.map(|(_, other)| before(other)).sum(),
            waiting: self.waiting(),
            held: own.held(),
            places: self.places,
            is_kept: self.taken < self.places,
        })
    }
}

#[cfg(test)]
mod tests;
