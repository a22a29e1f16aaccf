//! A writer of one kind of object: what it was acknowledged, and the one change that it does not
//! know the end of.

use anyhow::bail;
use client::Client;
use fastrand::Rng;

use super::{
    audit::{Line, Lines},
    is_unknown,
    subject::{OBJECTS, Subject, Value, name},
};

/// Of ten changes of an object that is there, how many delete it.
const DELETED_OF_TEN: u8 = 3;

/// It changes its objects, one after the other, until the server dies.
#[derive(Debug)]
pub(super) struct Writer {
    subject: Subject,
    /// As the server acknowledged them last.
    objects: Vec<Value>,
    /// The change that had no answer: of which object, and to what.
    under_way: Option<(usize, Value)>,
    /// Of changes that were acknowledged in this round.
    lines: Vec<Line>,
    /// So that no two values are the same.
    changes: u64,
    rng: Rng,
}

impl Writer {
    pub(super) fn new(subject: Subject, rng: Rng) -> Self {
        let objects = vec![None; OBJECTS];
        Self { subject, objects, under_way: None, lines: Vec::new(), changes: 0, rng }
    }

    /// Changes that were acknowledged in this round.
    pub(super) fn acknowledged(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Writes until there is no answer.
    ///
    /// # Errors
    /// If the server refuses something: nobody else changes these objects.
    pub(super) async fn write(mut self, client: Client) -> anyhow::Result<Self> {
        loop {
            let which = self.rng.usize(..OBJECTS);
            self.changes += 1;
            let now = self.objects[which].clone();
            let next = self.subject.next(&now, self.rng.u8(..10) < DELETED_OF_TEN, self.changes);
            let name = name(which);
            match self.subject.change(&client, &name, &now, &next).await {
                Ok(()) => {
                    self.lines.push(self.subject.line(&name, &now, &next));
                    self.objects[which] = next;
                }
                Err(error) if is_unknown(&error) => {
                    self.under_way = Some((which, next));
                    return Ok(self);
                }
                Err(error) => bail!("{:?} {name}, {now:?} to {next:?}: {error}", self.subject),
            }
        }
    }

    /// Holds what the server says now against all that, and takes it for what is acknowledged.
    /// Whether what was under way was done, if something was.
    ///
    /// # Errors
    /// If the server does not answer, or has a half of something.
    pub(super) async fn settle(
        &mut self,
        client: &Client,
        lines: &mut Lines,
        diagnostics: &mut Vec<String>,
    ) -> anyhow::Result<Option<bool>> {
        self.lines.drain(..).for_each(|line| lines.must(line));
        let mut found = self.subject.read(client).await?;
        let under_way = self.under_way.take();
        let mut done = under_way.as_ref().map(|_| false);
        for (which, object) in self.objects.iter_mut().enumerate() {
            let name = name(which);
            let is = found.remove(&name);
            if is == *object {
                continue;
            }
            let attempted = under_way.as_ref().filter(|(attempted, _)| *attempted == which);
            if let Some((_, next)) = attempted
                && *next == is
            {
                lines.must(self.subject.line(&name, object, next));
                done = Some(true);
            } else {
                let tried = attempted.map(|(_, next)| next);
                diagnostics.push(format!(
                    "{:?} {name}: acknowledged is {object:?}, under way was {tried:?}, and there is {is:?}",
                    self.subject
                ));
            }
            *object = is;
        }
        Ok(done)
    }
}
