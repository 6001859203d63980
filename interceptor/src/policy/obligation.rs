//! What annotations on the permits that decided oblige to: a grant, an approval, an answer of bounded size.

pub(super) mod approval;
pub(super) mod grant;
pub(super) mod limits;

pub use approval::{ApprovalId, Approved, AskedWhenRun, Later, Need, Needs, NotApproved};
pub use grant::{
    Budget, Counted, Covering, GrantId, Grantable, Held, Issued, NoGrants, Offer, Place, Terms,
    Want, is_answered, is_written, needed,
};
pub use limits::{Limit, Limits, size};
