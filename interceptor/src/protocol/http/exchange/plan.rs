//! The settings of a target as requests of one connection go by them: made once, and anew where a reload has
//! changed them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Http, Kubernetes, Target};
use crate::policy::GrpcFacts;
use crate::protocol::http::facts::Facts;
use crate::protocol::http::mask::Masks;
use crate::protocol::http::mask::grpc::{Call, Schema, Schemas};
use crate::protocol::kubernetes::facts::Class;
use crate::protocol::kubernetes::mask;
use crate::secrets::Secret;

/// What a target says of its requests.
pub(crate) struct Plan {
    pub(crate) target: Arc<Target>,
    pub(crate) http: Arc<Http>,
    pub(crate) masks: Arc<Masks>,
    /// The same for whoever may see masked fields.
    pub(crate) values: Arc<Masks>,
    /// What is looked for in requests.
    pub(crate) sent: Arc<Masks>,
    /// What messages of gRPC hold.
    schema: Option<Arc<Schema>>,
    /// What only a cluster needs.
    pub(crate) cluster: Option<Cluster>,
}

/// What a cluster's requests go by beside.
pub(crate) struct Cluster {
    pub(crate) settings: Arc<Kubernetes>,
    secrets: Arc<Masks>,
    tokens: Arc<Masks>,
}

impl Plan {
    /// What is known of the messages of a call of gRPC.
    pub(super) fn call(&self, facts: &Facts) -> Option<Call> {
        self.called(facts.http.grpc.as_ref()?)
    }

    /// The same of a procedure that is not called as one.
    pub(super) fn called(&self, named: &GrpcFacts) -> Option<Call> {
        Call::of(self.schema.as_ref()?, named)
    }

    /// What is masked of the answer to a request, where it is not revealed.
    pub(super) fn masks(&self, facts: &Facts) -> &Arc<Masks> {
        let (Some(cluster), Some(facts)) = (&self.cluster, &facts.cluster) else {
            return &self.masks;
        };
        match facts.class() {
            Class::Objects => &self.masks,
            Class::Secrets => &cluster.secrets,
            Class::Token => &cluster.tokens,
            Class::Plain => &self.values,
        }
    }
}

/// The plan in force.
pub(super) struct Plans {
    /// What hashes of masked values are keyed by.
    hash_key: Secret,
    schemas: Arc<Schemas>,
    known: Mutex<Option<Arc<Plan>>>,
}

impl Plans {
    pub(super) fn new(hash_key: Secret, schemas: Arc<Schemas>) -> Self {
        Self {
            hash_key,
            schemas,
            known: Mutex::default(),
        }
    }

    /// The plan of a target; `None` where it does not speak HTTP any more, or no key can be made.
    pub(super) fn of(&self, target: &Arc<Target>) -> Option<Arc<Plan>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = known.as_ref()
            && Arc::ptr_eq(&plan.target, target)
        {
            return Some(Arc::clone(plan));
        }
        let http = Arc::clone(target.http()?);
        let masks = Masks::new(&http.mask, &target.detect, &self.hash_key)?;
        let masks = masks.with_tables(http.tables);
        let sent = Masks::new(&[], &http.detect_sent, &self.hash_key)?;
        let schema = http.grpc.as_deref().and_then(|path| self.schemas.of(path));
        let plan = Arc::new(Plan {
            schema,
            sent: Arc::new(sent),
            target: Arc::clone(target),
            http,
            values: Arc::new(masks.revealed()),
            cluster: target.kubernetes().map(|settings| Cluster {
                settings: Arc::clone(settings),
                secrets: Arc::new(masks.and(&mask::fields(Class::Secrets))),
                tokens: Arc::new(masks.and(&mask::fields(Class::Token))),
            }),
            masks: Arc::new(masks),
        });
        *known = Some(Arc::clone(&plan));
        Some(plan)
    }
}
