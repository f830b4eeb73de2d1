//! The operator's own objects: one text, filled in once as they are applied and once as the chart's template.

use crate::api::labels::{ACCOUNT, HOOKS, NAMESPACE};

/// What the text is filled in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To be applied as it is.
    Plain,
    /// A template of the chart, with values for what clusters differ in.
    Template,
}

/// A place in the text, what is there when it is applied as it is, and what the chart has there.
const PLACES: &[(&str, &str, &str)] = &[
    ("{NAMESPACE}", NAMESPACE, "{{ .Release.Namespace }}"),
    ("{ACCOUNT}", ACCOUNT, ACCOUNT),
    ("{HOOKS}", HOOKS, HOOKS),
    ("{REPLICAS}", "2", "{{ .Values.replicas }}"),
    (
        "{IMAGE}",
        concat!("tollgate:", env!("CARGO_PKG_VERSION")),
        r#"{{ include "tollgate.image" . | quote }}"#,
    ),
    ("{PULL}", "IfNotPresent", "{{ .Values.image.pullPolicy }}"),
    (
        "{RESOURCES}",
        PLAIN_RESOURCES,
        "{{- toYaml .Values.resources | nindent 10 }}",
    ),
    ("{ENV}", "", CHOSEN_ENV),
    ("{POD}", "", CHOSEN_PLACE),
    ("{EGRESS}", "", CHOSEN_EGRESS),
    (
        "{POLICY_TYPES}",
        "[Ingress]",
        "{{ .Values.networkPolicy.egress | empty | ternary \"[Ingress]\" \"[Ingress, Egress]\" }}",
    ),
    ("{IF_POLICY}", "", "{{- if .Values.networkPolicy.enabled }}\n"),
    ("{END_POLICY}", "", "{{- end }}\n"),
];

const PLAIN_RESOURCES: &str = "
          requests: {cpu: 20m, memory: 32Mi}
          limits: {memory: 192Mi}";

/// The hold is named where the chart does not install policies, so that the operator restarts when
/// an upgrade of the cluster changes what holds.
const CHOSEN_ENV: &str = r#"
        {{- with include "tollgate.hold" . }}
        {{- if ne . "policy" }}
        - {name: TOLLGATE_HOLD, value: {{ . }}}
        {{- end }}
        {{- end }}
        {{- with .Values.watchNamespace }}
        - {name: TOLLGATE_WATCH_NAMESPACE, value: {{ . | quote }}}
        {{- end }}
        {{- with .Values.github.secret }}
        - {name: TOLLGATE_GITHUB_SECRET, value: {{ . | quote }}}
        {{- end }}
        {{- with .Values.github.url }}
        - {name: TOLLGATE_GITHUB_URL, value: {{ . | quote }}}
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}"#;

const CHOSEN_PLACE: &str = r#"
      {{- range $field := list "imagePullSecrets" "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
      {{- with get $.Values.pod $field }}
      {{ $field }}: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}"#;

const CHOSEN_EGRESS: &str = r"
  {{- with .Values.networkPolicy.egress }}
  egress:
  # names, and the API server
  - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
  - ports: [{protocol: TCP, port: 443}, {protocol: TCP, port: 6443}]
  {{- toYaml . | nindent 2 }}
  {{- end }}";

/// Two replicas: one leads and raises weights, both lower them. The text of Deployment,
/// PodDisruptionBudget, the Service of the hooks and NetworkPolicy.
#[must_use]
pub fn operator(form: Form) -> String {
    PLACES
        .iter()
        .fold(OPERATOR.to_owned(), |text, (place, plain, template)| {
            text.replace(
                place,
                match form {
                    Form::Plain => plain,
                    Form::Template => template,
                },
            )
        })
}

/// Nothing comes in but the questions that the operator answers. What goes out is left open: where
/// the API server and the sources are differs from cluster to cluster.
const OPERATOR: &str = r"apiVersion: apps/v1
kind: Deployment
metadata:
  name: tollgate
  namespace: {NAMESPACE}
  labels: {app.kubernetes.io/name: tollgate}
spec:
  replicas: {REPLICAS}
  selector:
    matchLabels: {app.kubernetes.io/name: tollgate}
  template:
    metadata:
      labels: {app.kubernetes.io/name: tollgate}
    spec:
      serviceAccountName: {ACCOUNT}
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile: {type: RuntimeDefault}{POD}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels: {app.kubernetes.io/name: tollgate}
      containers:
      - name: tollgate
        image: {IMAGE}
        imagePullPolicy: {PULL}
        args: [controller, --hooks-listen=0.0.0.0:8444]
        env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: TOLLGATE_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}{ENV}
        ports:
        - {name: http, containerPort: 8080}
        - {name: hold, containerPort: 8443}
        - {name: hooks, containerPort: 8444}
        livenessProbe:
          httpGet: {path: /healthz, port: http}
          periodSeconds: 10
          failureThreshold: 6
        readinessProbe:
          httpGet: {path: /readyz, port: http}
          periodSeconds: 5
        resources:{RESOURCES}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: tollgate
  namespace: {NAMESPACE}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {app.kubernetes.io/name: tollgate}
---
# Where other tools ask for decisions; config/argo-rollouts/ has what Argo Rollouts needs.
apiVersion: v1
kind: Service
metadata:
  name: {HOOKS}
  namespace: {NAMESPACE}
spec:
  selector: {app.kubernetes.io/name: tollgate}
  ports:
  - {name: hooks, port: 443, targetPort: hooks}
---
{IF_POLICY}apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: tollgate
  namespace: {NAMESPACE}
spec:
  podSelector:
    matchLabels: {app.kubernetes.io/name: tollgate}
  policyTypes: {POLICY_TYPES}
  ingress:
  - ports: [{protocol: TCP, port: http}, {protocol: TCP, port: hold}, {protocol: TCP, port: hooks}]{EGRESS}
{END_POLICY}";
