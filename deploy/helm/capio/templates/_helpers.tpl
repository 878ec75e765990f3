{{- define "capio.selector" -}}
app.kubernetes.io/name: capio
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "capio.labels" -}}
{{ include "capio.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "capio.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "capio.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary .Release.Name "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "capio.config" -}}
{{- .Values.config | default (.Files.Get "files/capio.toml") -}}
{{- end }}

{{/* What a change of the configuration rolls the pods for: providers and models are reloaded by the
running pods, all other sections apply at a start. */}}
{{- define "capio.configChecksum" -}}
{{- $config := fromToml (include "capio.config" .) -}}
{{- with $config.Error }}{{ fail (printf "config: not valid TOML: %s" .) }}{{ end -}}
{{- omit $config "providers" "models" | toJson | sha256sum -}}
{{- end }}

{{- define "capio.podMetadata" -}}
labels:
  {{- include "capio.labels" . | nindent 2 }}
annotations:
  checksum/config: {{ include "capio.configChecksum" .root }}
  {{- if .root.Values.monitoring.annotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: "9464"
  {{- end }}
{{- end }}

{{- define "capio.podSecurity" -}}
serviceAccountName: {{ include "capio.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "capio.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "capio.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "capio.container" -}}
image: {{ include "capio.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: config, mountPath: /etc/capio, readOnly: true }
  - { name: data, mountPath: /var/lib/capio }
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "capio.secretEnv" -}}
{{- range .keys }}
- name: {{ . }}
  valueFrom: { secretKeyRef: { name: {{ $.root.Values.secret.name }}, key: {{ . }} } }
{{- end }}
{{- end }}

{{- define "capio.settingsEnv" -}}
- { name: CAPIO_SERVER__DATA_DIR, value: /var/lib/capio }
- { name: CAPIO_METRICS__HOST, value: 0.0.0.0 }
- { name: CAPIO_SQL__MIGRATE, value: {{ not .Values.migration.enabled | quote }} }
{{- end }}

{{- define "capio.volumes" -}}
volumes:
  - name: config
    configMap: { name: {{ .root.Release.Name }}-config }
  - name: data # usage that could not reach Redis or SQL; outlives the container, not the pod
    emptyDir: { sizeLimit: {{ .size }} }
  - name: tmp
    emptyDir: { sizeLimit: 64Mi }
{{- end }}
