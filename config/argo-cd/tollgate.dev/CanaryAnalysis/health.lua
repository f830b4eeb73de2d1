-- The record of one attempt: Progressing while it is judged, Degraded when it was refused, Healthy
-- when it passed or was replaced. Never Unknown: a sync wave or hook fails on it.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Nothing has been judged yet" }
end

local health = { status = "Progressing", message = status.rule or "" }
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    if condition.type == "Stalled" then
      return { status = "Degraded", message = condition.message }
    elseif condition.type == "Ready" then
      health = { status = "Healthy", message = condition.message }
    end
  end
end
return health
