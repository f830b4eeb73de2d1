-- What Argo CD may ask of a gate: to hold, to abort and to try again. Never to go on, Promote or
-- Approve: the API server would sign it with Argo CD's account, not with the person's name.
local attempt = (obj.status or {}).attempt or {}
local moving = attempt.stage == "Preparing" or attempt.stage == "Stepping"

return {
  hold = {
    disabled = not moving or attempt.hold ~= nil,
    displayName = "Hold the release",
    iconClass = "fa fa-fw fa-pause",
  },
  abort = {
    disabled = not moving,
    displayName = "Abort the release",
    iconClass = "fa fa-fw fa-times-circle",
  },
  retry = {
    disabled = attempt.stage ~= "Rejected",
    displayName = "Try the refused revision again",
    iconClass = "fa fa-fw fa-redo",
  },
}
