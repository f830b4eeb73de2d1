-- A gate at rest is Healthy, a release in flight Progressing, a wait that a person has to end
-- Suspended, and a refused release or a gate that cannot be understood Degraded. Never Unknown: a
-- sync wave or hook fails on it, and on Degraded; the others keep it waiting.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not looked at this version of the gate yet" }
end

local is = {}
for _, condition in ipairs(status.conditions or {}) do
  is[condition.type] = condition.status == "True"
end

local health = { status = "Progressing", message = status.message or "" }
if is.Stalled then
  health.status = "Degraded"
elseif (status.attempt ~= nil and status.attempt.hold ~= nil) or status.reason == "Suspended" then
  health.status = "Suspended"
elseif is.Ready then
  health.status = "Healthy"
end

local progress = {}
if status.step ~= nil then
  table.insert(progress, "step " .. status.step)
end
if is.Reconciling and status.weight ~= nil then
  table.insert(progress, status.weight .. " %")
end
if status.reason ~= nil then
  table.insert(progress, status.reason)
end
if #progress > 0 then
  health.message = table.concat(progress, ", ") .. ": " .. health.message
end
return health
