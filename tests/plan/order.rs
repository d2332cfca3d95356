//! Every plan has its steps in one order.

use crate::invariants::for_plans_of_both_kinds;
use crate::ranks::disorder;

#[test]
fn steps_are_in_the_one_order() {
    for_plans_of_both_kinds(|made| {
        let wrong = disorder(&made.plan, &made.config, made.name.starts_with("exec"));
        assert_eq!(wrong, None, "{}", made.name);
    });
}
