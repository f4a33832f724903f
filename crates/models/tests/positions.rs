//! Rotary positions of prompts with pictures: the reference implementations' own, and what follows from the rules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use glimmer_models::{PictureSpan, PositionLayout, Positions};

fn positions(of: Positions, pictures: &[PictureSpan], slots: usize) -> Vec<f32> {
    let layout = PositionLayout::of_prompt(of, &[0]).unwrap().with_pictures(pictures).unwrap();
    let mut out = Vec::new();
    layout.extend(0..slots, &mut out);
    // In pieces they are the same.
    let mut pieces = Vec::new();
    (0..slots).for_each(|slot| layout.extend(slot..slot + 1, &mut pieces));
    assert_eq!(out, pieces);
    assert_eq!(out.len(), slots * layout.axes());
    out
}

#[test]
fn a_picture_of_glm_4v_has_three_positions() {
    // Two tokens, the picture's first row, four features, its last, two tokens.
    let span = PictureSpan { first: 2, rows: 6, grid: [1, 2, 2] };
    let found = positions(Positions::SharedByPicture, &[span], 10);
    assert_eq!(found, [0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn rows_of_a_grid_have_their_place_in_it() {
    let spans = [
        PictureSpan { first: 2, rows: 6, grid: [1, 2, 3] },
        PictureSpan { first: 9, rows: 3, grid: [1, 3, 1] },
    ];
    let found = positions(Positions::OfGrid, &spans, 14);
    let expected = [
        [0, 0, 0],
        [1, 1, 1],
        [2, 2, 2],
        [2, 2, 3],
        [2, 2, 4],
        [2, 3, 2],
        [2, 3, 3],
        [2, 3, 4],
        [5, 5, 5],
        [6, 6, 6],
        [6, 7, 6],
        [6, 8, 6],
        [9, 9, 9],
        [10, 10, 10],
    ];
    assert_eq!(found, expected.concat().iter().map(|&p: &i32| p as f32).collect::<Vec<_>>());
}

#[test]
fn elsewhere_pictures_are_rows_like_others() {
    let span = PictureSpan { first: 1, rows: 6, grid: [1, 2, 2] };
    let found = positions(Positions::Sequential { divisor: 1.0 }, &[span], 9);
    assert_eq!(found, (0..9).map(|p| p as f32).collect::<Vec<_>>());
}

#[test]
fn pictures_that_cannot_be_are_refused() {
    let of_grid = || PositionLayout::of_prompt(Positions::OfGrid, &[0]).unwrap();
    let span = |first, rows, grid| PictureSpan { first, rows, grid };
    for pictures in [
        vec![span(0, 5, [1, 2, 2])],
        vec![span(0, 0, [1, 0, 2])],
        vec![span(0, 4, [1, 2, 2]), span(3, 4, [1, 2, 2])],
        vec![span(9, 4, [1, 2, 2]), span(0, 4, [1, 2, 2])],
    ] {
        assert!(of_grid().with_pictures(&pictures).is_err(), "{pictures:?}");
    }
}
