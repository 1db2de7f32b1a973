package android.view;

import android.content.Context;
import java.util.ArrayList;
import java.util.List;

public abstract class ViewGroup extends View {
    private final List<View> children = new ArrayList<>();

    public ViewGroup(Context context) {
        super(context);
    }

    public void addView(View child) {
        touched();
        if (child.parent != null) {
            throw new IllegalStateException(
                    "The specified child already has a parent. You must call removeView() on the child's parent first.");
        }
        child.parent = this;
        children.add(child);
    }

    public void removeAllViews() {
        touched();
        for (View child : children) child.parent = null;
        children.clear();
    }

    public int getChildCount() {
        return children.size();
    }

    public View getChildAt(int index) {
        return children.get(index);
    }
}
