-- Asks the gate to retry: a GateAction, signed by the API server with Argo CD's account.
local os = require("os")

local request = {
  apiVersion = "tollgate.dev/v1alpha1",
  kind = "GateAction",
  metadata = {
    name = obj.metadata.name .. "-retry-" .. os.time(),
    namespace = obj.metadata.namespace,
  },
  spec = { gate = obj.metadata.name, verb = "Retry", reason = "asked in Argo CD" },
}
if obj.status ~= nil and obj.status.attempt ~= nil then
  request.spec.revision = obj.status.attempt.revision
end
return { { operation = "create", resource = request } }
