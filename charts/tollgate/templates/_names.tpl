{{- define "tollgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What holds: policy, webhook or paused. `helm template` knows no cluster but a version of Kubernetes. */ -}}
{{- define "tollgate.hold" -}}
{{- if ne .Values.hold "auto" -}}
{{ .Values.hold }}
{{- else if or (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) -}}
policy
{{- else -}}
webhook
{{- end -}}
{{- end }}

{{- /* Name and place of what is there only while gates are removed. */ -}}
{{- define "tollgate.uninstall" }}
  name: tollgate-uninstall
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
    helm.sh/hook-weight: "-1"
{{- end }}
