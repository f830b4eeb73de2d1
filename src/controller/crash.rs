//! Named crash points: where a test ends the process, to see that a restart comes to the same end.
//!
//! Every write to the cluster goes through [`around`], which names it. Each write has three
//! instants: before anything is sent, when the API server has acted but its answer has not been
//! read, and after the answer. The process is aborted, so nothing is flushed, released or told.
//!
//! Without the cargo feature `crash-points` only the names are compiled: [`around`] is the call
//! itself and [`Layer`] adds nothing, and the variable is not even known to the binary.

use std::fmt;

/// A write to the cluster, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// Our label is put on the Deployment.
    Adopt,
    /// The plan of an attempt is frozen in a `CanaryAnalysis`.
    Freeze,
    /// Stable is kept from shrinking.
    GuardStable,
    /// The canary is made or scaled.
    ScaleCanary,
    /// Weights and annotation of a route.
    WriteRoute,
    /// The hold is taken off.
    Release,
    /// A route goes back to what the user wrote.
    Restore,
    /// Field ownership of a route is given back.
    HandBack,
    /// The canary is removed.
    Remove,
    /// Our label is taken off the Deployment.
    Disown,
    /// The gate's status.
    Status,
    /// A request is answered.
    Answer,
    /// The analysis's status.
    AnalysisStatus,
    /// The lease is taken, renewed or released.
    Lease,
    /// The gate's finalizer.
    Finalizer,
}

impl Write {
    /// Every write there is.
    pub const ALL: [Self; 15] = [
        Self::Adopt,
        Self::Freeze,
        Self::GuardStable,
        Self::ScaleCanary,
        Self::WriteRoute,
        Self::Release,
        Self::Restore,
        Self::HandBack,
        Self::Remove,
        Self::Disown,
        Self::Status,
        Self::Answer,
        Self::AnalysisStatus,
        Self::Lease,
        Self::Finalizer,
    ];

    /// The first half of a point's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Adopt => "adopt",
            Self::Freeze => "freeze",
            Self::GuardStable => "guard-stable",
            Self::ScaleCanary => "scale-canary",
            Self::WriteRoute => "write-route",
            Self::Release => "release",
            Self::Restore => "restore",
            Self::HandBack => "hand-back",
            Self::Remove => "remove",
            Self::Disown => "disown",
            Self::Status => "status",
            Self::Answer => "answer",
            Self::AnalysisStatus => "analysis-status",
            Self::Lease => "lease",
            Self::Finalizer => "finalizer",
        }
    }
}

/// When, relative to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing has been sent.
    Before,
    /// The API server has acted; whether it did is not known here.
    Sent,
    /// The answer has been read, and nothing has been done with it.
    After,
}

impl Moment {
    /// Every moment there is.
    pub const ALL: [Self; 3] = [Self::Before, Self::Sent, Self::After];

    /// The second half of a point's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Sent => "sent",
            Self::After => "after",
        }
    }
}

/// A place to die, written `write-route.sent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// Which write.
    pub write: Write,
    /// When.
    pub moment: Moment,
}

/// Every point there is, so that a test can walk them.
pub const POINTS: [Point; Write::ALL.len() * Moment::ALL.len()] = {
    let mut points = [Point {
        write: Write::Adopt,
        moment: Moment::Before,
    }; Write::ALL.len() * Moment::ALL.len()];
    let mut at = 0;
    while at < points.len() {
        points[at] = Point {
            write: Write::ALL[at / Moment::ALL.len()],
            moment: Moment::ALL[at % Moment::ALL.len()],
        };
        at += 1;
    }
    points
};

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.write.word(), self.moment.word())
    }
}

#[cfg(not(any(test, feature = "crash-points")))]
pub use disarmed::{Layer, around};

#[cfg(any(test, feature = "crash-points"))]
pub use armed::{ArmError, Layer, VARIABLE, Watched, arm, around};

#[cfg(not(any(test, feature = "crash-points")))]
mod disarmed {
    use super::Write;

    /// Performs a write.
    pub async fn around<F: Future>(_write: Write, call: F) -> F::Output {
        call.await
    }

    /// A layer for the client that adds nothing.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Layer;

    impl<S> tower::Layer<S> for Layer {
        type Service = S;
        fn layer(&self, inner: S) -> S {
            inner
        }
    }
}

#[cfg(any(test, feature = "crash-points"))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;

    use super::{Moment, POINTS, Point, Write};

    /// The variable that names the point: `write-route.sent`, or `write-route.sent:2` for the
    /// second time it is reached.
    pub const VARIABLE: &str = "TOLLGATE_CRASH";

    static ARMED: OnceLock<(Point, AtomicU32)> = OnceLock::new();

    tokio::task_local! {
        static WRITE: Write;
    }

    /// The variable does not name a point.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("{VARIABLE}={value:?} names no crash point; it is name[:nth] with nth from 1 and one of the names {known}")]
    pub struct ArmError {
        value: String,
        known: String,
    }

    /// Reads the variable, once, at the start of the process.
    ///
    /// # Errors
    /// When it is set and names no point, so that a misspelt plan never passes for a survived one.
    pub fn arm() -> Result<Option<Point>, ArmError> {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let (point, nth) = parse(&value.to_string_lossy())?;
        let (point, _) = ARMED.get_or_init(|| (point, AtomicU32::new(nth)));
        Ok(Some(*point))
    }

    pub(super) fn parse(value: &str) -> Result<(Point, u32), ArmError> {
        let (name, nth) = value.split_once(':').unwrap_or((value, "1"));
        let point = POINTS.into_iter().find(|point| point.to_string() == name);
        match (point, nth.parse()) {
            (Some(point), Ok(nth)) if nth > 0 => Ok((point, nth)),
            _ => Err(ArmError {
                value: value.into(),
                known: POINTS.map(|point| point.to_string()).join(", "),
            }),
        }
    }

    fn reach(write: Write, moment: Moment) {
        let here = Point { write, moment };
        if let Some((point, left)) = ARMED.get()
            && *point == here
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            eprintln!("crash point {here} reached");
            std::process::abort();
        }
    }

    /// Performs a write as the named point: dies before it, inside it or after it when asked to.
    pub async fn around<F: Future>(write: Write, call: F) -> F::Output {
        reach(write, Moment::Before);
        let output = WRITE.scope(write, call).await;
        reach(write, Moment::After);
        output
    }

    /// A layer for the client: the place of the instant [`Moment::Sent`].
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Layer;

    impl<S> tower::Layer<S> for Layer {
        type Service = Watched<S>;
        fn layer(&self, inner: S) -> Watched<S> {
            Watched(inner)
        }
    }

    /// Sees the answer of every write before its caller does.
    ///
    /// The client runs its services on a task of their own, but the future they return is polled
    /// by the task of the caller, where [`around`] has left the name of the write.
    #[derive(Debug, Clone)]
    pub struct Watched<S>(S);

    impl<S, B> tower::Service<http::Request<B>> for Watched<S>
    where
        S: tower::Service<http::Request<B>>,
        S::Future: Send + 'static,
        S::Response: Send,
        S::Error: Send,
    {
        type Response = S::Response;
        type Error = S::Error;
        type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

        fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.poll_ready(context)
        }

        fn call(&mut self, request: http::Request<B>) -> Self::Future {
            let writes = !request.method().is_safe();
            let answer = self.0.call(request);
            Box::pin(async move {
                let answer = answer.await;
                if writes
                    && answer.is_ok()
                    && let Ok(write) = WRITE.try_with(|write| *write)
                {
                    reach(write, Moment::Sent);
                }
                answer
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;
    use kube::client::{Body, ClientBuilder};

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own_and_is_found_by_it() {
        let names: std::collections::BTreeSet<_> = POINTS.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 45);
        for point in POINTS {
            assert_eq!(armed::parse(&point.to_string()), Ok((point, 1)));
            assert_eq!(armed::parse(&format!("{point}:7")), Ok((point, 7)));
        }
        for wrong in [
            "",
            "write-route",
            "write-route.during",
            "status.after:0",
            "status.after:x",
        ] {
            let error = armed::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains("write-route.sent"), "{error}");
        }
    }

    /// What the process of the next test does when it is told to die somewhere: two writes of
    /// each kind against a server that prints what reaches it.
    async fn child() {
        arm().expect("a point");
        let server = tower::service_fn(async |request: http::Request<Body>| {
            println!("served {}", request.method());
            let body = request.into_body().collect_bytes().await?;
            Ok::<_, kube::Error>(http::Response::new(Body::from(body.to_vec())))
        });
        let client = ClientBuilder::new(server, "default").with_layer(&Layer).build();
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        for write in Write::ALL {
            let object = ConfigMap::default();
            let answer = around(write, async {
                let _read = api.get("read").await;
                api.create(&PostParams::default(), &object).await
            });
            answer.await.expect("an answer");
            println!("done {}", write.word());
        }
    }

    #[tokio::test]
    async fn a_process_dies_at_the_named_instant_and_nowhere_else() {
        if std::env::var_os(VARIABLE).is_some() {
            return child().await;
        }
        let own = std::env::current_exe().expect("the test binary");
        let name = "controller::crash::tests::a_process_dies_at_the_named_instant_and_nowhere_else";
        for (at, point) in POINTS.into_iter().enumerate() {
            let run = Command::new(&own)
                .args(["--exact", name, "--nocapture"])
                .env(VARIABLE, point.to_string())
                .output()
                .expect("a child process");
            let told = String::from_utf8_lossy(&run.stdout);
            assert_eq!(run.status.signal(), Some(6), "{point}: {told}");
            let writes_before = at / Moment::ALL.len();
            let served = writes_before + usize::from(point.moment != Moment::Before);
            assert_eq!(told.matches("served POST").count(), served, "{point}: {told}");
            assert_eq!(told.matches("done ").count(), writes_before, "{point}: {told}");
        }
        let never = Command::new(&own)
            .args(["--exact", name, "--nocapture"])
            .env(VARIABLE, "status.sent:2")
            .output()
            .expect("a child process");
        assert!(never.status.success(), "the second time never came");
    }
}
