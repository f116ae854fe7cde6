//! What an answer to a write that was sent before says of it.

use kvorum_protocol::{Outcome, ResponseBody, ServerError};

/// The answer to a retry speaks of the write, not of the copy that it answers: an earlier copy may take effect although this
/// one was turned away. Only a verdict holds for all of them.
pub(super) fn speak_of_the_write(body: &mut ResponseBody) {
    match body {
        ResponseBody::Error(error) => leave_open(error),
        ResponseBody::Batch(results) => {
            results.iter_mut().filter_map(|result| result.as_mut().err()).for_each(leave_open);
        }
        _ => {}
    }
}

fn leave_open(error: &mut ServerError) {
    if error.outcome == Outcome::NotApplied && !error.code.is_verdict() {
        error.outcome = Outcome::Unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::ErrorCode;

    #[test]
    fn only_a_verdict_says_of_a_retry_that_it_was_not_applied() {
        for &code in ErrorCode::ALL {
            let error = ServerError::new(code, "because").with_outcome(Outcome::NotApplied);
            let expected = if code.is_verdict() { Outcome::NotApplied } else { Outcome::Unknown };
            let mut alone = ResponseBody::Error(error.clone());
            speak_of_the_write(&mut alone);
            let mut batch = ResponseBody::Batch(vec![Err(error.clone())]);
            speak_of_the_write(&mut batch);
            let expected = error.with_outcome(expected);
            assert_eq!(alone, ResponseBody::Error(expected.clone()));
            assert_eq!(batch, ResponseBody::Batch(vec![Err(expected)]));
        }
        let mut applied =
            ResponseBody::Error(ServerError::new(ErrorCode::Overloaded, "").with_outcome(Outcome::Applied));
        let before = applied.clone();
        speak_of_the_write(&mut applied);
        assert_eq!(applied, before);
    }
}
