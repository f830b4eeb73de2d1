//! Argo Rollouts moves the traffic, by the numbers of pods, and Tollgate judges: with the files that
//! people apply, and beside what Argo Rollouts does alone.

mod alone;
mod page;
mod releases;
mod rollouts;
