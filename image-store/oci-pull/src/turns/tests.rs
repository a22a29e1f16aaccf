//! Who is given a place, and who is told to be where in the queue.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use super::*;

/// A request, looked at without a runtime.
struct Asked {
    claim: Claim,
    future: Pin<Box<dyn Future<Output = Permit>>>,
    permit: Option<Permit>,
}

impl Asked {
    fn of(turns: &Turns, user: &str) -> Self {
        let claim = turns.claim(user);
        let future = {
            let claim = claim.clone();
            Box::pin(async move { claim.permit().await })
        };
        let mut asked = Self { claim, future, permit: None };
        asked.has_place();
        asked
    }

    fn has_place(&mut self) -> bool {
        if self.permit.is_none()
            && let Poll::Ready(permit) =
                self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.permit = Some(permit);
        }
        self.permit.is_some()
    }
}

fn ask(turns: &Turns, user: &str, count: usize) -> Vec<Asked> {
    (0..count).map(|_| Asked::of(turns, user)).collect()
}

fn with_places(asked: &mut [Asked]) -> usize {
    asked.iter_mut().map(|asked| usize::from(asked.has_place())).sum()
}

#[test]
fn one_user_has_all_places_but_one() {
    let turns = Turns::new(8);
    let mut ann = ask(&turns, "ann", 100);
    assert_eq!(with_places(&mut ann), 7);
    let mut bob = ask(&turns, "bob", 2);
    assert_eq!(with_places(&mut bob), 1, "the one that was kept");
    // Whatever becomes free is his until he has as many.
    let mut eve = ask(&turns, "eve", 1);
    drop(ann.remove(0));
    assert_eq!((with_places(&mut ann), with_places(&mut bob), with_places(&mut eve)), (6, 1, 1));
    drop(ann.remove(0));
    assert_eq!((with_places(&mut ann), with_places(&mut bob)), (5, 1), "one is kept again");
    drop(ann.remove(0));
    assert_eq!((with_places(&mut ann), with_places(&mut bob)), (4, 2));
    drop((ann, bob, eve));
    let book = turns.book();
    assert_eq!((book.taken, book.claims.len(), book.users.len()), (0, 0, 0));
}

#[test]
fn a_single_place_goes_round() {
    let turns = Turns::new(1);
    let mut ann = ask(&turns, "ann", 3);
    let mut bob = ask(&turns, "bob", 2);
    let mut order = String::new();
    while !(ann.is_empty() && bob.is_empty()) {
        let (of_ann, of_bob) = (with_places(&mut ann), with_places(&mut bob));
        assert_eq!(of_ann + of_bob, 1);
        order.push(if of_ann == 1 { 'a' } else { 'b' });
        let queue = if of_ann == 1 { &mut ann } else { &mut bob };
        assert!(queue[0].has_place(), "a user's own go in their order");
        drop(queue.remove(0));
    }
    assert_eq!(order, "ababa");
}

#[test]
fn who_leaves_the_queue_is_given_nothing() {
    let turns = Turns::new(2);
    let mut ann = ask(&turns, "ann", 3);
    assert_eq!(with_places(&mut ann), 1);
    drop(ann.remove(1));
    drop(ann.remove(0));
    assert_eq!((ann.len(), with_places(&mut ann)), (1, 1));
    // Given, and nobody looked at it before it was dropped.
    let waiting = Asked::of(&turns, "ann");
    drop(ann);
    drop(waiting);
    assert_eq!(turns.book().taken, 0);
}

#[test]
fn a_claim_has_one_place_however_often_it_asks() {
    let turns = Turns::new(3);
    let mut first = Asked::of(&turns, "ann");
    let again = {
        let claim = first.claim.clone();
        Box::pin(async move { claim.permit().await })
    };
    let mut again = Asked { claim: first.claim.clone(), future: again, permit: None };
    assert!(first.has_place() && again.has_place());
    assert_eq!(turns.book().taken, 1);
    drop(first);
    assert_eq!(turns.book().taken, 1, "shared until the last is gone");
    drop(again);
    assert_eq!(turns.book().taken, 0);
}

#[test]
fn what_is_given_to_another_user_counts_for_that_one() {
    let turns = Turns::new(3);
    let mut ann = ask(&turns, "ann", 3);
    assert_eq!(with_places(&mut ann), 2);
    ann[0].claim.give_to("bob");
    ann[2].claim.give_to("eve");
    assert_eq!(with_places(&mut ann), 3, "the last place was kept for somebody like eve");
    let book = turns.book();
    let held: Vec<(&str, usize)> =
        book.users.iter().map(|(name, user)| (&**name, user.held())).collect();
    assert_eq!(held, [("ann", 1), ("bob", 1), ("eve", 1)]);
}

#[test]
fn who_holds_more_than_a_share_gives_back_what_came_last() {
    let turns = Turns::new(8);
    let mut ann = ask(&turns, "ann", 9);
    let mut bob = ask(&turns, "bob", 9);
    assert_eq!((with_places(&mut ann), with_places(&mut bob)), (7, 1));
    let mut held = Vec::new();
    loop {
        for of_bob in &bob {
            turns.book().recall(of_bob.claim.0.id);
        }
        let Some(recalled) = turns.book().recalled else { break };
        let newest = ann.iter().rposition(|asked| asked.permit.is_some()).unwrap();
        let asked = ann.remove(newest);
        assert_eq!(asked.claim.0.id, recalled);
        let permit = asked.permit.as_ref().unwrap();
        assert!(pin!(permit.recalled()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
        drop(asked);
        ann.extend(ask(&turns, "ann", 1));
        held.push((with_places(&mut ann), with_places(&mut bob)));
    }
    // First somebody who has none has a place again.
    assert_eq!(held, [(6, 1), (5, 2), (4, 3)]);
    let permit = ann[0].permit.as_ref().unwrap();
    assert!(pin!(permit.recalled()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn who_has_one_place_keeps_it() {
    let turns = Turns::new(2);
    let _holders = [ask(&turns, "ann", 1), ask(&turns, "bob", 1)];
    let eve = ask(&turns, "eve", 1);
    turns.book().recall(eve[0].claim.0.id);
    assert_eq!(turns.book().recalled, None);
}

#[test]
fn people_are_told_where_they_stand() {
    let turns = Turns::new(3);
    let told = |asked: &Asked| asked.claim.standing().map(|standing| standing.told("this user"));
    let ann = ask(&turns, "ann", 4);
    let mut all = vec![told(&ann[0]), told(&ann[2]), told(&ann[3])];
    let bob = ask(&turns, "bob", 2);
    all.extend([told(&bob[0]), told(&bob[1]), told(&ann[3])]);
    let all: Vec<&str> = all.iter().map(|told| told.as_deref().unwrap_or("in no queue")).collect();
    let kept = "this user has 2 of the 3 places, and the last is kept for users who have none";
    assert_eq!(
        all,
        [
            "in no queue",
            &format!("number 1 of 2; {kept}"),
            &format!("number 2 of 2, behind 1 of this user; {kept}"),
            "in no queue",
            "number 1 of 3; all 3 places are taken, 1 of them by this user",
            "number 3 of 3, behind 1 of this user and 1 of other users; all 3 places are taken, \
             2 of them by this user",
        ]
    );
}

proptest! {
    /// The queue as it is told is the one in which places are given.
    #[test]
    fn the_queue_is_as_it_is_told(
        places in 1..5_usize,
        users in proptest::collection::vec(0..4_usize, 1..24),
        gone in proptest::collection::vec(0..24_usize, 0..6),
    ) {
        let turns = Turns::new(places);
        let names = ["ann", "bob", "eve", "joe"];
        let mut asked: Vec<Asked> = users.iter().map(|user| Asked::of(&turns, names[*user])).collect();
        for index in gone {
            if index < asked.len() {
                drop(asked.remove(index));
            }
        }
        let mut told: Vec<(usize, u64)> = Vec::new();
        for asked in &asked {
            if let Some(standing) = asked.claim.standing() {
                told.push((standing.own_before + standing.others_before + 1, asked.claim.0.id));
            }
        }
        told.sort_unstable();
        let numbers: Vec<usize> = told.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(numbers, (1..=told.len()).collect::<Vec<_>>());
        let mut book = turns.book();
        book.places = 1_000;
        let given: Vec<u64> = std::iter::from_fn(|| book.grant_next()).collect();
        drop(book);
        prop_assert_eq!(told.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), given);
    }

    /// Nobody has two more than somebody who waits; a place is left to whoever has none.
    #[test]
    fn no_user_has_more_than_a_share_while_others_wait(
        places in 2..9_usize,
        users in proptest::collection::vec(0..4_usize, 1..60),
    ) {
        let turns = Turns::new(places);
        let names = ["ann", "bob", "eve", "joe"];
        // All ask while nothing is free.
        let holders: Vec<Asked> = (0..places).map(|number| Asked::of(&turns, &number.to_string())).collect();
        let asked: Vec<Asked> = users.iter().map(|user| Asked::of(&turns, names[*user])).collect();
        drop(holders);
        let book = turns.book();
        let least = book.users.values().filter(|user| !user.waiting.is_empty()).map(UserState::held).min();
        if let Some(least) = least {
            prop_assert!(book.users.values().all(|user| user.held() <= least + 1));
            prop_assert!(book.taken + 1 >= places);
        }
        drop(book);
        drop(asked);
    }
}
