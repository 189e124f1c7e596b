//! Jobs that wait, and the worker that takes them: all that wait go out in one push. A worker ends when nobody waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use git2::Oid;
use handler_api::Failure;
use tokio::sync::oneshot;

use super::git::Pushed;
use super::verdict::{Complaint, Heard, list};
use super::{Inner, Job, Snapshot, TRAILER, lock};
use crate::files::{Branch, Edits};
use crate::plan::Look;

/// How often a push is tried that somebody else is faster than.
pub const TRIES_MAX: u32 = 6;
/// Most jobs in one push; the others wait for the next.
pub const JOBS_MAX: usize = 500;
/// From this try on nobody else of us pushes to `members` meanwhile.
const TURN_TRY: u32 = 3;
/// What is ours on `master`.
const OURS: [&str; 2] = ["conf/reactor", "keydir/reactor"];

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Pushes `master`, perhaps `members` too, and waits for the compile.
    Compiled,
    /// Pushes `members` only.
    Asked,
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    works: AtomicBool,
}

/// A job, and who wants to hear of it.
#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    /// Also if nothing changes: a compile is wanted.
    always: bool,
    answer: oneshot::Sender<Result<(), Failure>>,
}

impl Waiting {
    fn answer(self, answer: Result<(), Failure>) {
        // Nobody there any more is fine.
        let _ = self.answer.send(answer);
    }
}

/// Runs what takes its time where nobody else waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Failure::retry(format!("admin repository: our own work broke: {error}"))))
}

/// Gives a job to a worker and waits for it.
pub(super) async fn push(inner: &Arc<Inner>, lane: Lane, job: Arc<Job>, always: bool) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    give(inner, lane, Waiting { job, always, answer });
    let gone = |_| Err(Failure::retry("admin repository: the push was ended before its end; it is planned again"));
    answered.await.unwrap_or_else(gone)
}

fn give(inner: &Arc<Inner>, lane: Lane, waiting: Waiting) {
    let queue = &inner.waiting[lane as usize];
    let mut all = lock(&queue.waiting);
    all.push(waiting);
    if !queue.works.swap(true, Ordering::SeqCst) {
        tokio::spawn(work(Arc::clone(inner), lane));
    }
}

/// Sets the flag back also when the worker is dropped or panics.
struct Works<'a>(&'a Queue);

impl Drop for Works<'_> {
    fn drop(&mut self) {
        self.0.works.store(false, Ordering::SeqCst);
    }
}

async fn work(inner: Arc<Inner>, lane: Lane) {
    let queue = &inner.waiting[lane as usize];
    let works = Works(queue);
    loop {
        let jobs = {
            let mut all = lock(&queue.waiting);
            if all.is_empty() {
                // Under the lock: whoever comes next starts a worker.
                drop(works);
                return;
            }
            let count = all.len().min(JOBS_MAX);
            all.drain(..count).collect()
        };
        let mut groups = vec![jobs];
        while let Some(jobs) = groups.pop() {
            groups.extend(send(&inner, lane, jobs).await);
        }
    }
}

/// What goes out in one push.
struct Batch {
    base: Snapshot,
    /// With all commits on it.
    top: Snapshot,
    jobs: Vec<(Waiting, BTreeSet<(Branch, String)>)>,
}

impl Batch {
    fn commits(&self) -> Vec<(Branch, Oid)> {
        let moved = |branch: &Branch| self.top.tip(*branch) != self.base.tip(*branch);
        let branches = [Branch::Members, Branch::Master].into_iter().filter(moved);
        branches.filter_map(|branch| Some((branch, self.top.tip(branch)?))).collect()
    }

    fn touched(&self) -> BTreeSet<(Branch, String)> {
        self.jobs.iter().flat_map(|(_, touched)| touched.iter().cloned()).collect()
    }

    fn answer(self, answer: &Result<(), Failure>) {
        for (waiting, _) in self.jobs {
            waiting.answer(answer.clone());
        }
    }
}

/// Commits and pushes these jobs, and answers them; those that must go again, in other company, come back.
async fn send(inner: &Arc<Inner>, lane: Lane, mut jobs: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut moved = String::new();
    let mut turn = None;
    for attempt in 1..=TRIES_MAX {
        if lane == Lane::Asked || attempt >= TURN_TRY {
            drop(turn.take());
            turn = Some(inner.turn.lock().await);
        }
        let base = match base(inner, lane, attempt).await {
            Ok(base) => base,
            Err(failure) => {
                jobs.into_iter().for_each(|waiting| waiting.answer(Err(failure.clone())));
                return Vec::new();
            }
        };
        let batch = make(inner, lane, base, jobs).await;
        let commits = batch.commits();
        if commits.is_empty() {
            batch.answer(&Ok(()));
            return Vec::new();
        }
        match push_commits(inner, &batch.top, &commits).await {
            Ok(Pushed::Done(heard)) => return judge(inner, batch, &commits, heard).await,
            Ok(Pushed::Moved(why)) => {
                moved = why;
                *lock(&inner.known) = None;
                jobs = batch.jobs.into_iter().map(|(waiting, _)| waiting).collect();
            }
            Err(failure) => {
                // What became of it is not known.
                *lock(&inner.known) = None;
                batch.answer(&Err(failure));
                return Vec::new();
            }
        }
    }
    let url = &inner.remote.url;
    let failure =
        Failure::retry(format!("admin repository {url}: somebody else was faster {TRIES_MAX} times: {moved}"));
    jobs.into_iter().for_each(|waiting| waiting.answer(Err(failure.clone())));
    Vec::new()
}

/// On what to commit. What the other lane has under way is seen only by looking.
async fn base(inner: &Arc<Inner>, lane: Lane, attempt: u32) -> Result<Snapshot, Failure> {
    let other_at_work = lane == Lane::Asked && !inner.compiles().under_way.is_empty();
    let base = if attempt > 1 || other_at_work { inner.fetch().await? } else { inner.known_or_fetched().await? };
    Ok(Snapshot::clone(&base))
}

/// A commit for each job, one upon the other. Who gets none (nobody waits, its edits fail, nothing is to do) is answered.
async fn make(inner: &Arc<Inner>, lane: Lane, base: Snapshot, jobs: Vec<Waiting>) -> Batch {
    let mut batch = Batch { top: base.clone(), base, jobs: Vec::with_capacity(jobs.len()) };
    for waiting in jobs {
        if waiting.answer.is_closed() {
            continue;
        }
        let (job, top) = (Arc::clone(&waiting.job), batch.top.clone());
        let author = inner.remote.author.clone();
        // One compile is enough for all, and none is needed if it ended well meanwhile.
        let always = waiting.always && top.master == batch.base.master && inner.compiles().well != Some(top.master);
        let made = blocking(move || {
            let edits = (job.edits)(&top)?;
            let compiled = edits.keys().any(|(branch, _)| *branch == Branch::Master);
            if lane == Lane::Asked && compiled {
                return Ok(None);
            }
            commit(&top, &edits, &job.message, &author, always).map(Some)
        });
        match made.await {
            Ok(None) => give(inner, Lane::Compiled, waiting),
            Ok(Some((top, touched))) => {
                let moved = top.master != batch.top.master || top.members != batch.top.members;
                batch.top = top;
                if moved || !batch.commits().is_empty() {
                    batch.jobs.push((waiting, touched));
                } else {
                    waiting.answer(Ok(()));
                }
            }
            Err(failure) => waiting.answer(Err(failure)),
        }
    }
    batch
}

/// Commits edits on top of a snapshot: what stands there then, and which files are not the same any more.
fn commit(
    on: &Snapshot,
    edits: &Edits,
    message: &str,
    author: &(String, String),
    always: bool,
) -> Result<(Snapshot, BTreeSet<(Branch, String)>), Failure> {
    let message = with_trailer(message);
    let mut top = on.clone();
    for branch in [Branch::Members, Branch::Master] {
        let always = always && branch == Branch::Master;
        if always || edits.keys().any(|(of, _)| *of == branch) {
            let made = on.place.copy.commit(on.tip(branch), edits, branch, always, (&message, author))?;
            made.into_iter().for_each(|commit| top.set(branch, commit));
        }
    }
    let touched = edits.keys().filter(|(branch, _)| on.tip(*branch) != top.tip(*branch)).cloned().collect();
    Ok((top, touched))
}

/// A message by which we know our own commit again. NUL has no place in one.
fn with_trailer(message: &str) -> String {
    let message = message.replace('\0', "");
    let message = message.trim_end();
    if message.lines().any(|line| line.starts_with(TRAILER)) {
        return format!("{message}\n");
    }
    format!("{message}\n\n{TRAILER}yes\n")
}

/// Pushes; what compiles meanwhile is known to be under way.
async fn push_commits(inner: &Arc<Inner>, top: &Snapshot, commits: &[(Branch, Oid)]) -> Result<Pushed, Failure> {
    let _under_way = UnderWay::new(inner, commits);
    let pushed = top.place.git.push(commits).await?;
    if matches!(pushed, Pushed::Done(_)) {
        stands(inner, top, commits)?;
    }
    Ok(pushed)
}

/// A commit on `master` that is being pushed.
struct UnderWay<'a>(&'a Inner, Option<Oid>);

impl<'a> UnderWay<'a> {
    fn new(inner: &'a Inner, commits: &[(Branch, Oid)]) -> Self {
        let commit = commits.iter().find(|(branch, _)| *branch == Branch::Master).map(|(_, commit)| *commit);
        inner.compiles().under_way.extend(commit);
        Self(inner, commit)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(commit) = self.1 {
            self.0.compiles().under_way.remove(&commit);
        }
    }
}

/// Remembers what stands there now.
fn stands(inner: &Inner, top: &Snapshot, commits: &[(Branch, Oid)]) -> Result<(), Failure> {
    let mut known = lock(&inner.known);
    // Only where the objects of both are in one copy.
    *known = known.take().filter(|now| Arc::ptr_eq(&now.place, &top.place)).map(|mut now| {
        commits.iter().for_each(|(branch, commit)| now.set(*branch, *commit));
        now
    });
    drop(known);
    for (branch, commit) in commits {
        let name = branch.at_remote().replace("refs/heads/", "refs/reactor/own/");
        top.place.copy.keep(&name, *commit)?;
    }
    Ok(())
}

/// What came of a push that went through.
async fn judge(inner: &Arc<Inner>, batch: Batch, commits: &[(Branch, Oid)], heard: Heard) -> Vec<Vec<Waiting>> {
    let Some((_, tip)) = commits.iter().find(|(branch, _)| *branch == Branch::Master) else {
        batch.answer(&Ok(()));
        return Vec::new();
    };
    *lock(&inner.unknown_group) = heard.unknown_groups.first().cloned();
    match complaints(&batch.top, batch.touched(), heard).await {
        Ok(complaints) if complaints.is_empty() => {
            compiled(inner, &batch.top, *tip);
            batch.answer(&Ok(()));
            Vec::new()
        }
        Ok(complaints) => refused(inner, batch, complaints).await,
        Err(failure) => {
            batch.answer(&Err(failure));
            Vec::new()
        }
    }
}

/// What gitolite refused; its other warnings go to stderr.
async fn complaints(
    top: &Snapshot,
    touched: BTreeSet<(Branch, String)>,
    heard: Heard,
) -> Result<Vec<Complaint>, Failure> {
    let top = top.clone();
    let ours = touched.into_iter().filter(|(branch, _)| *branch == Branch::Master).map(|(_, path)| path).collect();
    blocking(move || {
        for line in heard.warnings.iter().chain(&heard.ignored) {
            eprintln!("gitolite says: {line}");
        }
        if let [first, rest @ ..] = &heard.unknown_groups[..] {
            eprintln!("gitolite says: group {first} and {} others are not declared", rest.len());
        }
        heard.refused(&top, &ours)
    })
    .await
}

/// It compiled well: remembered, and marked at the remote, for which nobody waits.
fn compiled(inner: &Arc<Inner>, top: &Snapshot, tip: Oid) {
    let mut compiles = inner.compiles();
    compiles.well = Some(tip);
    compiles.to_mark = Some(tip);
    if std::mem::replace(&mut compiles.marking, true) {
        return;
    }
    let (inner, place) = (Arc::clone(inner), Arc::clone(&top.place));
    tokio::spawn(async move {
        loop {
            let commit = {
                let mut compiles = inner.compiles();
                let commit = compiles.to_mark.take();
                compiles.marking = commit.is_some();
                commit
            };
            let Some(commit) = commit else { return };
            if let Err(failure) = place.git.mark(commit).await {
                eprintln!("the next start compiles once more, since this could not be marked: {failure}");
            }
        }
    });
}

/// gitolite refused: everything of this push is put back, and whose fault it was is found out.
async fn refused(inner: &Arc<Inner>, batch: Batch, complaints: Vec<Complaint>) -> Vec<Vec<Waiting>> {
    let url = inner.remote.url.clone();
    let said = list(&complaints);
    let before = match put_back(inner, &batch, &complaints).await {
        Ok(before) => before,
        Err(failure) => {
            let message = format!(
                "admin repository {url}: gitolite refused the configuration, and what stood there before could not be put back: \
                 {said}; {failure}"
            );
            batch.answer(&Err(Failure::retry(message)));
            return Vec::new();
        }
    };
    if !before.is_empty() {
        batch.answer(&Err(broken_before(&url, &before)));
        return Vec::new();
    }
    let failure = |complaints: &[Complaint]| {
        let said = list(complaints);
        Failure::permanent(format!(
            "admin repository {url}: gitolite refused the configuration, nothing has changed: {said}"
        ))
        .hinting("look at that line's name or rule in the truth, and at the handler's `template`")
    };
    if batch.jobs.len() == 1 {
        batch.answer(&Err(failure(&complaints)));
        return Vec::new();
    }
    let guilty = |touched: &BTreeSet<(Branch, String)>| -> Vec<Complaint> {
        let places = complaints.iter().filter(|complaint| {
            let path = complaint.place.as_ref().map(|place| place.path.clone());
            path.is_some_and(|path| touched.contains(&(Branch::Master, path)))
        });
        places.cloned().collect()
    };
    let mut rest = Vec::new();
    let count = batch.jobs.len();
    for (waiting, touched) in batch.jobs {
        match guilty(&touched) {
            found if found.is_empty() => rest.push(waiting),
            found => waiting.answer(Err(failure(&found))),
        }
    }
    if rest.len() == count {
        // Nobody's line: halves, until it is found.
        let other = rest.split_off(count / 2);
        return vec![other, rest];
    }
    if rest.is_empty() { Vec::new() } else { vec![rest] }
}

/// What stood there before does not compile either: somebody's line, or the server itself.
fn broken_before(url: &str, before: &[Complaint]) -> Failure {
    let said = list(before);
    let then = "then this goes on by itself, and at once with: reactor retry ID";
    match before.iter().find_map(|complaint| complaint.place.as_ref()) {
        Some(place) => Failure::retry(format!(
            "admin repository {url}: gitolite compiles nothing, the configuration was broken before: {said}"
        ))
        .hinting(format!("who wrote it says `git log -1 {}`. Mend that line and push; {then}", place.path)),
        None => Failure::retry(format!(
            "admin repository {url}: gitolite compiles nothing, also not what stood there before: {said}"
        ))
        .hinting(format!(
            "on the git server: df -h; and as gitolite's user: gitolite compile. Mend what that says; {then}"
        )),
    }
}

/// Puts the files of this push back as they were, with one more commit; what gitolite refuses even then.
async fn put_back(inner: &Arc<Inner>, batch: &Batch, why: &[Complaint]) -> Result<Vec<Complaint>, Failure> {
    let mut touched = batch.touched();
    let mut good = batch.base.clone();
    if touched.is_empty() {
        // Only a compile was wanted: back to what compiled well at last.
        let Some(compiled) = good.compiled else { return Ok(why.to_vec()) };
        // What people broke themselves is no reason to take back what is good of ours, and done since the mark.
        let is_ours =
            |path: &str| OURS.iter().any(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
        if !why.iter().any(|complaint| complaint.place.as_ref().is_none_or(|place| is_ours(&place.path))) {
            return Ok(why.to_vec());
        }
        let (place, tip) = (Arc::clone(&good.place), good.master);
        let paths = blocking(move || place.copy.differing(compiled, tip, &OURS)).await?;
        touched.extend(paths.into_iter().map(|path| (Branch::Master, path)));
        if touched.is_empty() {
            return Ok(why.to_vec());
        }
        good.master = compiled;
    }
    let message = format!("Taken back: gitolite refused it\n\n{}\n\n{TRAILER}taken back\n", list(why));
    for _ in 0..TRIES_MAX {
        let now = Snapshot::clone(&*inner.fetch().await?);
        let base = now.clone();
        let (before, paths, author, text) =
            (good.clone(), touched.clone(), inner.remote.author.clone(), message.clone());
        let (top, touched) = blocking(move || {
            let mut edits = BTreeMap::new();
            for (branch, path) in paths {
                let bytes = before.read(branch, &path)?;
                edits.insert((branch, path), bytes);
            }
            commit(&now, &edits, &text, &author, false)
        })
        .await?;
        let batch = Batch { base, top, jobs: Vec::new() };
        let commits = batch.commits();
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        if let Pushed::Done(heard) = push_commits(inner, &batch.top, &commits).await? {
            let complaints = complaints(&batch.top, touched, heard).await?;
            if let (true, Some((_, tip))) =
                (complaints.is_empty(), commits.iter().find(|(of, _)| *of == Branch::Master))
            {
                compiled(inner, &batch.top, *tip);
            }
            return Ok(complaints);
        }
        *lock(&inner.known) = None;
    }
    Err(Failure::retry(format!("somebody else was faster {TRIES_MAX} times")))
}

/// How many wait.
#[cfg(test)]
pub(super) fn waiting(inner: &Inner, lane: Lane) -> usize {
    lock(&inner.waiting[lane as usize].waiting).len()
}
