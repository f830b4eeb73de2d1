//! Leader election by a Lease: who may raise weights.
//!
//! A lease never fences: what keeps an old leader's write out is the compare-and-swap and the
//! epoch in the route itself. The lease keeps two healthy replicas from working against each
//! other, and it has to be right about time: a record expires by the time that has passed on our
//! own monotonic clock since we last saw it change, never by a timestamp another host wrote; and
//! a leader that could not renew stops raising well before anybody else may take over.
//!
//! Each term has its own epoch (`leaseTransitions`), also when the same process leads again.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection;
use super::crash::{self, Write};

/// Which lease, who we are, and the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the lease: the operator's own.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who we are: unique among all processes that ever lived, so a Pod's name is not enough.
    pub identity: String,
    /// How long others leave a silent leader alone, in whole seconds. Default 15 s.
    pub lease: Duration,
    /// How long after its last renewal a leader still raises; shorter than `lease`. Default 10 s.
    pub renew: Duration,
    /// Time between two tries; at most half of `renew`. Default 2 s.
    pub retry: Duration,
}

/// The times of a lease do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The lease cannot be written as a positive number of seconds.
    #[error("the lease duration is {0:?}; it must be whole seconds from 1 s to 1 h")]
    Lease(Duration),
    /// A leader would still raise when another may already have taken over.
    #[error("the renew deadline is {renew:?}; it must be shorter than the lease of {lease:?}")]
    Renew {
        /// As given.
        renew: Duration,
        /// As given.
        lease: Duration,
    },
    /// One lost request would cost the leadership.
    #[error(
        "the retry period is {retry:?}; it must be more than 0 and at most half of the renew deadline of {renew:?}"
    )]
    Retry {
        /// As given.
        retry: Duration,
        /// As given.
        renew: Duration,
    },
}

impl Settings {
    /// The default times: 15 s, 10 s, 2 s. The identity is made unique to this process.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, pod: &str) -> Self {
        let started = Timestamp::now().as_microsecond();
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: format!("{pod}_{}_{started:x}", std::process::id()),
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let seconds = self.lease.as_secs();
        if self.lease.subsec_nanos() != 0 || !(1..=3600).contains(&seconds) {
            return Err(SettingsError::Lease(self.lease));
        }
        if self.renew >= self.lease {
            return Err(SettingsError::Renew {
                renew: self.renew,
                lease: self.lease,
            });
        }
        if self.retry.is_zero() || self.retry > self.renew / 2 {
            return Err(SettingsError::Retry {
                retry: self.retry,
                renew: self.renew,
            });
        }
        Ok(())
    }

    /// A client for the lease alone: it never repeats a request by itself, and no call outlives
    /// the renew deadline.
    ///
    /// # Errors
    /// When the configuration of the cluster cannot be used.
    pub fn client(&self, mut config: Config) -> Result<Client, kube::Error> {
        config.connect_timeout = Some(self.call());
        config.read_timeout = Some(self.renew);
        config.write_timeout = Some(self.renew);
        connection::plain(config)
    }

    /// The longest one call may take: three slow ones still fit into the renew deadline.
    fn call(&self) -> Duration {
        self.renew / 3
    }
}

/// What is known about the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It has not been read yet.
    Unknown,
    /// Somebody else holds it, or nobody.
    Following(Option<String>),
    /// We hold it.
    Leading(Term),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    epoch: i64,
    /// When the last successful renewal was *begun*.
    renewed: Instant,
}

/// Whether this process leads. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    renew: Duration,
}

impl Leadership {
    /// Whether a weight may be raised at `now`: we lead, and the last successful renewal is
    /// younger than the renew deadline. Compares two times and asks nobody, so a process that
    /// was frozen knows the moment it wakes, before any task has run. Ask right before the write.
    #[must_use]
    pub fn may_raise(&self, now: Instant) -> bool {
        self.epoch(now).is_some()
    }

    /// The number of our term, while [`Self::may_raise`] holds. Grows with every term.
    #[must_use]
    pub fn epoch(&self, now: Instant) -> Option<i64> {
        self.term()
            .filter(|term| now.saturating_duration_since(term.renewed) < self.renew)
            .map(|term| term.epoch)
    }

    /// Whether the lease has been read or taken at least once: part of being ready.
    #[must_use]
    pub fn known(&self) -> bool {
        *self.standing.borrow() != Standing::Unknown
    }

    /// Who else was last seen to hold the lease.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        match &*self.standing.borrow() {
            Standing::Following(holder) => holder.clone(),
            Standing::Unknown | Standing::Leading(_) => None,
        }
    }

    /// Waits until we lead, and returns the term's number. Waits for ever once the election ended.
    pub async fn wait_until_leader(&self) -> i64 {
        let mut standing = self.standing.clone();
        loop {
            if let Some(epoch) = self.epoch(Instant::now()) {
                return epoch;
            }
            if standing.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until we do not lead, or no longer; at once when we do not lead now. Keeps its own
    /// time, so it also ends when the election itself is stuck or gone.
    pub async fn lost(&self) {
        let mut standing = self.standing.clone();
        loop {
            let Some(term) = self.term() else { return };
            let deadline = term.renewed + self.renew;
            if Instant::now() >= deadline {
                return;
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                changed = standing.changed() => if changed.is_err() { return },
            }
        }
    }

    fn term(&self) -> Option<Term> {
        match &*self.standing.borrow() {
            Standing::Leading(term) => Some(*term),
            Standing::Unknown | Standing::Following(_) => None,
        }
    }
}

/// The candidate: to be run beside everything else, as long as the process lives.
pub struct Election {
    api: Api<Lease>,
    settings: Settings,
    standing: watch::Sender<Standing>,
    /// The version of the record we saw last, and when we saw it first.
    seen: Option<(String, Instant)>,
    failing: bool,
}

/// What one try came to.
enum Try {
    Leading { epoch: i64 },
    Following { holder: Option<String> },
}

impl Election {
    /// Makes a candidate and the handle that tells how it stands.
    ///
    /// # Errors
    /// When the times do not fit together.
    pub fn new(client: Client, settings: Settings) -> Result<(Self, Leadership), SettingsError> {
        settings.check()?;
        let (standing, seen_by) = watch::channel(Standing::Unknown);
        let leadership = Leadership {
            standing: seen_by,
            renew: settings.renew,
        };
        let election = Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            standing,
            seen: None,
            failing: false,
        };
        Ok((election, leadership))
    }

    /// Takes and renews the lease until `stop`, then releases it.
    ///
    /// Stop all writes that need leadership before `stop` is cancelled: releasing invites
    /// another replica to go on at once.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let begun = Instant::now();
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.once(begun) => {}
            }
            let next = begun + self.settings.retry;
            let wake = self.deadline().map_or(next, |deadline| next.min(deadline));
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(wake) => {}
            }
        }
        self.release().await;
    }

    /// When the running term ends unless it is renewed.
    fn deadline(&self) -> Option<Instant> {
        match &*self.standing.borrow() {
            Standing::Leading(term) => Some(term.renewed + self.settings.renew),
            Standing::Unknown | Standing::Following(_) => None,
        }
    }

    /// One try to take or renew, never past the end of the running term.
    async fn once(&mut self, begun: Instant) {
        if self.deadline().is_some_and(|deadline| begun >= deadline) {
            self.follow(None);
        }
        let deadline = self.deadline();
        let patience = deadline.unwrap_or(begun + self.settings.renew);
        let answer = match timeout_at(patience, self.attempt()).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(CallError::Timeout),
        };
        match answer {
            Ok(Try::Leading { epoch }) => self.lead(Term { epoch, renewed: begun }),
            // Somebody else holds it: certain, so step down at once.
            Ok(Try::Following { holder }) => self.follow(holder.as_deref()),
            // Unknown: lead on, but only until the renew deadline.
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "the lease cannot be read or renewed");
                }
                self.failing = true;
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    self.follow(None);
                }
                return;
            }
        }
        self.failing = false;
    }

    fn lead(&self, term: Term) {
        let before = self.standing.send_replace(Standing::Leading(term));
        if !matches!(before, Standing::Leading(_)) {
            tracing::info!(epoch = term.epoch, "leading");
        }
    }

    fn follow(&self, holder: Option<&str>) {
        let before = self.standing.send_replace(Standing::Following(holder.map(Into::into)));
        if matches!(before, Standing::Leading(_)) {
            tracing::warn!(holder, "no longer leading");
        }
    }

    /// Reads the record; takes it when it is ours, free or expired.
    async fn attempt(&mut self) -> Result<Try, CallError> {
        let name = self.settings.name.clone();
        let Some(mut lease) = self.call(self.api.get_opt(&name)).await? else {
            return self.create().await;
        };
        self.observe(&lease);
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let ours = holder.as_deref() == Some(self.settings.identity.as_str());
        if holder.is_some() && !ours && !self.expired(spec) {
            return Ok(Try::Following { holder });
        }
        let leading = self.deadline().is_some();
        let epoch = spec
            .lease_transitions
            .unwrap_or(0)
            .max(0)
            .saturating_add(i32::from(!(ours && leading)));
        self.fill(spec, epoch, !(ours && leading));
        self.write(&lease).await
    }

    async fn create(&self) -> Result<Try, CallError> {
        let mut spec = LeaseSpec::default();
        self.fill(&mut spec, 1, true);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let params = PostParams::default();
        let created = crash::around(Write::Lease, self.call(self.api.create(&params, &lease))).await;
        Self::settle(created, 1)
    }

    async fn write(&self, lease: &Lease) -> Result<Try, CallError> {
        let epoch = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let params = PostParams::default();
        let put = self.api.replace(&self.settings.name, &params, lease);
        let put = crash::around(Write::Lease, self.call(put)).await;
        Self::settle(put, i64::from(epoch))
    }

    /// A conflict means that another was faster: lost, whoever it was.
    fn settle(answer: Result<Lease, CallError>, epoch: i64) -> Result<Try, CallError> {
        match answer {
            Ok(_) => Ok(Try::Leading { epoch }),
            Err(CallError::Api(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Ok(Try::Following { holder: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Notes when this version of the record was first seen.
    fn observe(&mut self, lease: &Lease) {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
    }

    /// Whether the record has stood still for longer than its holder promised. A promise shorter
    /// than our own lease is rounded up to it, and one above four times our lease is cut, so that
    /// a forged record cannot stall the election for long.
    fn expired(&self, spec: &LeaseSpec) -> bool {
        let own = self.settings.lease;
        let promised = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(own, Duration::from_secs)
            .clamp(own, own * 4);
        self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= promised)
    }

    /// The record as we write it. Its times are for people; nobody of ours compares them.
    fn fill(&self, spec: &mut LeaseSpec, epoch: i32, acquired: bool) {
        let now = MicroTime(Timestamp::now());
        if acquired {
            spec.acquire_time = Some(now.clone());
        }
        spec.renew_time = Some(now);
        spec.holder_identity = Some(self.settings.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.settings.lease.as_secs()).ok();
        spec.lease_transitions = Some(epoch);
    }

    /// Steps down, then frees the record if it is ours, so that nobody has to wait. It may be ours
    /// although we do not lead: the last try may have been cut off before its answer.
    async fn release(self) {
        self.standing.send_replace(Standing::Following(None));
        if let Err(error) = self.free().await {
            tracing::warn!(%error, "the lease could not be released; it expires by itself");
        }
    }

    async fn free(&self) -> Result<(), CallError> {
        let Some(mut lease) = self.call(self.api.get_opt(&self.settings.name)).await? else {
            return Ok(());
        };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(self.settings.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        self.write(&lease).await.map(|_| ())
    }

    /// One call under its own timeout.
    async fn call<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
        match tokio::time::timeout(self.settings.call(), call).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(CallError::Timeout),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard};

    use futures::future::pending;
    use kube::client::Body;
    use serde_json::json;
    use tokio::task::JoinHandle;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What the API server does with requests.
    #[derive(Clone, Copy, Default, PartialEq)]
    enum Network {
        #[default]
        Up,
        /// Nothing arrives and nothing is answered.
        Cut,
        /// Everything is done and nothing is answered.
        AnswersLost,
        /// Every answer is 500.
        Failing,
    }

    #[derive(Default)]
    struct Record {
        lease: Option<Lease>,
        version: u64,
        /// Somebody else writes between the next GET and its PUT.
        race: bool,
    }

    /// An API server that knows one Lease, seen through the network of one client.
    #[derive(Clone, Default)]
    struct Server {
        record: Arc<Mutex<Record>>,
        network: Arc<Mutex<Network>>,
    }

    impl Server {
        /// The same server as another client sees it.
        fn other_side(&self) -> Self {
            Self {
                record: Arc::clone(&self.record),
                network: Arc::default(),
            }
        }

        fn network(&self, network: Network) {
            *self.network.lock().unwrap() = network;
        }

        fn record(&self) -> MutexGuard<'_, Record> {
            self.record.lock().unwrap()
        }

        fn spec(&self) -> LeaseSpec {
            self.record().lease.clone().unwrap().spec.unwrap()
        }

        /// Writes the lease as somebody who does not take part in the election.
        fn edit(&self, edit: impl FnOnce(&mut LeaseSpec)) {
            let mut record = self.record();
            record.version += 1;
            let version = record.version.to_string();
            let lease = record.lease.get_or_insert_default();
            lease.metadata.resource_version = Some(version);
            edit(lease.spec.get_or_insert_default());
        }

        fn answer(&self, method: &http::Method, body: &[u8]) -> (u16, serde_json::Value) {
            let mut record = self.record();
            let status = |code: u16, reason: &str| (code, json!({"kind": "Status", "code": code, "reason": reason}));
            let found = record.lease.clone();
            if *method == http::Method::GET {
                return found.map_or(status(404, "NotFound"), |lease| (200, json!(lease)));
            }
            if std::mem::take(&mut record.race) {
                record.version += 1;
            }
            let mut sent: Lease = serde_json::from_slice(body).unwrap();
            let current = found.map(|_| record.version.to_string());
            if *method == http::Method::POST && current.is_some() || sent.metadata.resource_version != current {
                return status(409, "Conflict");
            }
            record.version += 1;
            sent.metadata.resource_version = Some(record.version.to_string());
            record.lease = Some(sent.clone());
            (200, json!(sent))
        }

        fn client(&self) -> Client {
            let server = self.clone();
            let service = tower::service_fn(move |request: http::Request<Body>| {
                let server = server.clone();
                async move {
                    let network = *server.network.lock().unwrap();
                    let method = request.method().clone();
                    let body = request.into_body().collect_bytes().await?;
                    let (code, answer) = match network {
                        Network::Cut => pending().await,
                        Network::Failing => (500, json!({"kind": "Status", "code": 500})),
                        Network::Up => server.answer(&method, &body),
                        Network::AnswersLost => {
                            let _done = server.answer(&method, &body);
                            pending().await
                        }
                    };
                    let body = Body::from(answer.to_string().into_bytes());
                    Ok::<_, kube::Error>(http::Response::builder().status(code).body(body).unwrap())
                }
            });
            Client::new(service, "tollgate")
        }
    }

    struct Replica {
        server: Server,
        leadership: Leadership,
        task: JoinHandle<()>,
        stop: CancellationToken,
    }

    impl Replica {
        fn start(name: &str, server: Server) -> Self {
            let settings = Settings::new("tollgate", "tollgate", name);
            let (election, leadership) = Election::new(server.client(), settings).expect("good times");
            let stop = CancellationToken::new();
            let task = tokio::spawn(election.run(stop.clone()));
            Self {
                server,
                leadership,
                task,
                stop,
            }
        }

        fn raises(&self) -> bool {
            self.leadership.may_raise(Instant::now())
        }

        async fn leads_within(&self, limit: Duration) -> i64 {
            timeout(limit, self.leadership.wait_until_leader())
                .await
                .expect("leads in time")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_leads_and_the_other_knows_who() {
        let server = Server::default();
        let first = Replica::start("first", server.clone());
        assert!(!first.leadership.known(), "nothing is known before the first answer");
        assert_eq!(first.leads_within(SECOND).await, 1);
        let second = Replica::start("second", server.other_side());
        for _ in 0..600 {
            sleep(SECOND / 10).await;
            assert!(first.raises() && !second.raises());
        }
        assert!(second.leadership.known());
        assert!(
            second
                .leadership
                .holder()
                .is_some_and(|holder| holder.starts_with("first_"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cut_off_stops_before_another_takes_over() {
        let server = Server::default();
        let first = Replica::start("first", server.clone());
        first.leads_within(SECOND).await;
        let second = Replica::start("second", server.other_side());
        sleep(20 * SECOND).await;
        for broken in [Network::Cut, Network::Failing] {
            let (old, new) = if first.raises() {
                (&first, &second)
            } else {
                (&second, &first)
            };
            let term = server.spec().lease_transitions;
            let cut = Instant::now();
            old.server.network(broken);
            timeout(10 * SECOND, old.leadership.lost())
                .await
                .expect("the renew deadline holds");
            while !new.raises() {
                assert!(!old.raises());
                sleep(SECOND / 10).await;
            }
            assert!(cut.elapsed() <= 18 * SECOND, "took over after {:?}", cut.elapsed());
            assert!(cut.elapsed() >= 13 * SECOND, "took over after {:?}", cut.elapsed());
            assert!(server.spec().lease_transitions > term, "a new term has a new epoch");
            old.server.network(Network::Up);
            sleep(30 * SECOND).await;
            assert!(new.raises() && !old.raises(), "the old leader does not take it back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_frozen_for_60_s_knows_before_any_task_has_run() {
        let replica = Replica::start("only", Server::default());
        let before = replica.leads_within(SECOND).await;
        assert!(replica.leadership.may_raise(Instant::now() + 9 * SECOND));
        assert!(!replica.leadership.may_raise(Instant::now() + 10 * SECOND));
        assert!(!replica.leadership.may_raise(Instant::now() + 60 * SECOND));
        advance(60 * SECOND).await;
        let after = replica.leads_within(3 * SECOND).await;
        assert!(after > before, "it leads again in a new term");
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_lapses_although_the_election_is_gone() {
        let replica = Replica::start("only", Server::default());
        replica.leads_within(SECOND).await;
        replica.task.abort();
        timeout(10 * SECOND, replica.leadership.lost())
            .await
            .expect("keeps its own time");
        sleep(10 * SECOND).await;
        assert!(!replica.raises());
    }

    #[tokio::test(start_paused = true)]
    async fn a_definite_loss_ends_the_term_at_once() {
        for case in ["the record names somebody else", "the write meets a conflict"] {
            let replica = Replica::start("only", Server::default());
            replica.leads_within(SECOND).await;
            if case == "the write meets a conflict" {
                replica.server.record().race = true;
            } else {
                let other = |spec: &mut LeaseSpec| spec.holder_identity = Some("other".into());
                replica.server.edit(other);
            }
            let lost = timeout(3 * SECOND, replica.leadership.lost()).await;
            assert!(lost.is_ok(), "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_graceful_stop_hands_over_within_one_retry() {
        let server = Server::default();
        let first = Replica::start("first", server.clone());
        first.leads_within(SECOND).await;
        let second = Replica::start("second", server.other_side());
        sleep(5 * SECOND).await;
        first.stop.cancel();
        first.task.await.expect("ends");
        assert!(!first.leadership.may_raise(Instant::now()));
        assert_eq!(server.spec().holder_identity, None);
        assert_eq!(second.leads_within(2 * SECOND + SECOND / 10).await, 2);
        second.server.network(Network::Cut);
        second.stop.cancel();
        timeout(10 * SECOND, second.task).await.expect("bounded").expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_whose_answer_was_lost_is_not_led_and_the_next_has_a_higher_epoch() {
        let server = Server::default();
        server.network(Network::AnswersLost);
        server.edit(|_| {});
        let replica = Replica::start("only", server.clone());
        sleep(30 * SECOND).await;
        assert!(!replica.raises());
        server.network(Network::Up);
        let first = replica.leads_within(10 * SECOND).await;
        server.network(Network::AnswersLost);
        timeout(10 * SECOND, replica.leadership.lost()).await.expect("lost");
        server.network(Network::Up);
        assert!(replica.leads_within(10 * SECOND).await > first);
    }

    #[tokio::test(start_paused = true)]
    async fn no_record_written_by_others_stalls_the_election() {
        for (case, seconds, transitions) in [
            ("a promise of 68 years", Some(i32::MAX), Some(3)),
            ("a negative promise", Some(-1), Some(-1)),
            ("no promise", None, None),
        ] {
            let server = Server::default();
            let century = Timestamp::from_second(4_102_444_800).expect("the year 2100");
            server.edit(|spec| {
                spec.holder_identity = Some("gone".into());
                spec.renew_time = Some(MicroTime(century));
                spec.lease_duration_seconds = seconds;
                spec.lease_transitions = transitions;
            });
            let replica = Replica::start("only", server);
            sleep(14 * SECOND).await;
            assert!(!replica.raises(), "{case}: nobody is pushed aside early");
            assert!(replica.leads_within(50 * SECOND).await > 0, "{case}");
        }
    }

    #[test]
    fn times_that_would_let_two_lead_are_refused() {
        let secs = Duration::from_secs;
        for (lease, renew, retry, accepted) in [
            (secs(15), secs(10), secs(2), true),
            (secs(3), secs(2), secs(1), true),
            (secs(15), secs(15), secs(2), false),
            (secs(15), secs(20), secs(2), false),
            (secs(15), secs(10), secs(6), false),
            (secs(15), secs(10), Duration::ZERO, false),
            (Duration::ZERO, secs(10), secs(2), false),
            (Duration::from_millis(2500), secs(2), secs(1), false),
        ] {
            let settings = Settings {
                lease,
                renew,
                retry,
                ..Settings::new("tollgate", "tollgate", "only")
            };
            assert_eq!(settings.check().is_ok(), accepted, "{lease:?} {renew:?} {retry:?}");
        }
    }
}
